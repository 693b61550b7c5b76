"""`toolkit bench --peers`: the verifier beside other face networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import MissingError, UsageError
from toolkit.output import emit, note, table

if TYPE_CHECKING:
    import numpy as np

    from export.manifest import Bundle

CROPS = 16  # that each network sees in turn


def bench_peers(
    bundle: Bundle, runs: int, faces: Path | None, pairs: Path | None, plot: Path | None, as_json: bool
) -> None:
    """Raises UsageError (options that need each other), MissingError (packages)."""
    if (pairs or plot) and not (faces and pairs):
        raise UsageError("accuracy needs pairs and their faces", got="one of them", do="pass --faces and --pairs")
    try:
        from benchmarks.facts import device_facts
        from benchmarks.peer_latency import compare_peers
    except ImportError as error:
        raise MissingError(
            f"--peers needs {error.name}", do="run `pip install 'hyperverify[enroll,models]'`"
        ) from error
    if plot:
        from benchmarks.plots import check_plotting

        check_plotting(plot)
    rows = compare_peers(bundle, _crops(faces), runs)
    result: dict[str, Any] = {"threads": 1, "peers": rows, "device": device_facts()}
    result["f_times_faster"] = _ratios(rows)
    if faces and pairs:
        from benchmarks.peer_accuracy import peer_accuracy

        result["accuracy"] = {"pairs": pairs.name, "faces": faces.name, **peer_accuracy(faces, pairs, threads=2)}
        for row in rows:
            key = f"f {row['name'].split('/')[1]}" if row["name"].startswith("f ") else row["name"]
            row["accuracy"] = result["accuracy"].get(key)
    if plot:
        from benchmarks.plots import plot_peers

        result["plot"] = str(plot / "peers.png")
        plot_peers(rows, plot / "peers.png")
    emit(result, as_json, lambda: _human(result))


def _crops(faces: Path | None) -> np.ndarray:
    """uint8 RGB [CROPS, 112, 112, 3]"""
    if faces is None:
        from benchmarks.pictures import made_up

        note("no --faces: the crops are made up, which no network's time depends on")
        return made_up(CROPS, 112)
    from models.facedata import read_faces

    source = read_faces(faces)
    return source.some([i * len(source) // CROPS for i in range(CROPS)]).crops()


def _ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How many times faster the fastest int8 form of f is, shrinking the crop included."""
    times = {row["name"]: row["p50_ms"] for row in rows if "p50_ms" in row}
    best = min(time for name, time in times.items() if name.startswith("f ") and name.endswith("int8"))
    return {name: time / best for name, time in times.items() if not name.startswith("f ")}


def _human(r: dict[str, Any]) -> str:
    lines = []
    for row in r["peers"]:
        if "missing" in row:
            continue
        accuracy = row.get("accuracy")
        lines.append((
            row["name"], f"{row['params']:,}", f"{row['macs'] / 1e6:.1f}", f"{row['file_bytes'] / 1000:,.0f}",
            f"{row['p50_ms']:.3f}", f"{row['p90_ms']:.3f}", f"{row['p99_ms']:.3f}", f"{row['cold_start_ms']:.0f}",
            f"{row['resident_bytes'] / 1e6:.0f}", f"{accuracy:.2%}" if accuracy else "",
        ))  # fmt: skip
    head = (
        "network",
        "parameters",
        "MMACs",
        "file KB",
        "p50 ms",
        "p90",
        "p99",
        "cold start ms",
        "resident MB",
        "accuracy",
    )
    text = f"{r['device']['processor']}, one thread, per aligned face (yunet: per frame)\n\n" + table(lines, head)
    ratios = ", ".join(f"{ratio:.0f}× {name}" for name, ratio in r["f_times_faster"].items())
    missing = "".join(f"\nnot measured: {row['name']}: {row['missing']}" for row in r["peers"] if "missing" in row)
    return f"{text}\n\nthe fastest int8 form of f is faster than: {ratios}{missing}"
