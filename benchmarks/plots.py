"""Pictures of an evaluation: DET curve, score histogram, peers, ablations."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.score_counts import ScoreCounts
from toolkit.atomic import write_atomically
from toolkit.errors import MissingError

Scores = dict[str, tuple[np.ndarray, np.ndarray]]  # label → genuine, impostor


def check_plotting(folder: Path) -> None:
    """Raises MissingError or OSError before any work is done whose plots could not be drawn."""
    _matplotlib()
    folder.mkdir(parents=True, exist_ok=True)


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise MissingError("plots need matplotlib", do="run `pip install 'hyperverify[eval]'`") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _figure() -> tuple[Any, Any, Any]:
    plt = _matplotlib()
    figure, axes = plt.subplots(figsize=(6.4, 4.8), dpi=120)
    return plt, figure, axes


def plot_det(scores: Scores, title: str, path: Path) -> None:
    """Detection error trade-off on logarithmic axes, every point drawn."""
    plt, figure, axes = _figure()
    floor = 0.5 / max(len(impostor) for _, impostor in scores.values())
    for label, (genuine, impostor) in scores.items():
        _, fmr, fnmr = ScoreCounts.of(genuine, impostor).curve()
        axes.plot(np.maximum(fmr, floor), np.maximum(fnmr, 0.5 / len(genuine)), drawstyle="steps-post", label=label)
    axes.set(xscale="log", yscale="log", xlabel="false match rate", ylabel="false non-match rate", title=title)
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    _save(plt, figure, path)


def plot_histogram(scores: Scores, title: str, path: Path) -> None:
    """Density of genuine and impostor scores, one pair of outlines for each label."""
    plt, figure, axes = _figure()
    everything = np.concatenate([s for pair in scores.values() for s in pair])
    bins = np.linspace(everything.min(), everything.max(), 61)
    for number, (label, (genuine, impostor)) in enumerate(scores.items()):
        style = ("-", "--", ":")[number % 3]
        for name, values, colour in (("genuine", genuine, "tab:green"), ("impostor", impostor, "tab:red")):
            axes.hist(
                values, bins, density=True, histtype="step", linestyle=style, color=colour, label=f"{label}, {name}"
            )
    axes.set(xlabel="score", ylabel="density", title=title)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)  # inside it would hide a peak
    _save(plt, figure, path)


def plot_peers(rows: list[dict[str, Any]], path: Path) -> None:
    """Errors (1 - accuracy) against latency, both logarithmic; networks without an accuracy are left out."""
    plt, figure, axes = _figure()
    for row in rows:
        if not row.get("accuracy"):
            continue
        at = (row["p50_ms"], 1 - row["accuracy"])
        form, turn = row["name"].startswith("f "), 0
        axes.scatter(*at, s=30, color="tab:green" if form else "tab:red")
        if form:  # they lie side by side: int8 is named above, fp32 below
            turn = -60 if row["name"].endswith("fp32") else 60
        place = {"xytext": (2, -5 if turn < 0 else 5), "rotation": turn, "va": "top" if turn < 0 else "bottom"}
        axes.annotate(row["name"], at, textcoords="offset points", fontsize=7, rotation_mode="anchor", **place)
    title = "errors against time, one thread"
    axes.set(xscale="log", yscale="log", xlabel="ms a face, p50", ylabel="1 - accuracy", title=title)
    axes.grid(True, which="both", alpha=0.3)
    axes.margins(0.15)
    _save(plt, figure, path)


def plot_ablation(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """What each variant of `models.ablation` reached, the first one's rates as lines to compare with."""
    plt = _matplotlib()
    measures = (("EER", "eer"), ("TMR at FMR 1e-2", "tmr_1e2"), ("TMR at FMR 1e-3", "tmr_1e3"))
    size = (9.6, 1.4 + 0.24 * len(rows))
    figure, panels = plt.subplots(1, len(measures), sharey=True, figsize=size, dpi=120)
    places = np.arange(len(rows))
    for axes, (label, key) in zip(panels, measures, strict=True):
        values = [float(row["validation"][key]) for row in rows]
        axes.axvline(values[0], color="tab:green", alpha=0.5)
        axes.scatter(values, places, s=28, color=["tab:green", *["tab:blue"] * (len(rows) - 1)])
        axes.set(xlabel=label)
        axes.grid(True, axis="both", alpha=0.3)
    panels[0].set_yticks(places, [row["name"] for row in rows], fontsize=8)
    panels[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    _save(plt, figure, path)


def _save(plt: Any, figure: Any, path: Path) -> None:
    figure.tight_layout()
    save = partial(figure.savefig, format="png", metadata={"Software": None})
    write_atomically(path, save, mode=0o644)
    plt.close(figure)
