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
AIMS = {"mobilefacenet": 100, "sface": 300}  # times faster


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
    result["f_times_faster"] = _ratios(rows, shrinking=True)
    result["f_times_faster_at_its_size"] = _ratios(rows, shrinking=False)
    result["aims"] = _aims(result)
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


def _ratios(rows: list[dict[str, Any]], shrinking: bool) -> dict[str, float]:
    """How many times faster the fastest int8 form of f is, shrinking the crop included or not."""
    measured = [row for row in rows if "p50_ms" in row]
    forms = [row for row in measured if row["name"].startswith("f ")]
    best = min((row if shrinking else row["at_its_size"])["p50_ms"] for row in forms if row["name"].endswith("int8"))
    return {row["name"]: row["p50_ms"] / best for row in measured if row not in forms}


def _aims(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What was to be reached, and what was, in both ways of counting."""
    included, apart = result["f_times_faster"], result["f_times_faster_at_its_size"]
    return [
        {"network": name, "aim": aim, "reached": included[name], "reached_at_its_size": apart[name],
         "met": included[name] >= aim, "met_at_its_size": apart[name] >= aim}
        for name, aim in AIMS.items() if name in included
    ]  # fmt: skip


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
    rows = [
        (name, f"{ratio:.0f}×", f"{r['f_times_faster_at_its_size'][name]:.0f}×", *_verdicts(r["aims"], name))
        for name, ratio in r["f_times_faster"].items()
    ]
    faster = table(rows, ("faster than", "crop shrunk by f", "face aligned to f's size", "aim", "shrunk", "aligned"))
    missing = "".join(f"\nnot measured: {row['name']}: {row['missing']}" for row in r["peers"] if "missing" in row)
    return f"{text}\n\nthe fastest int8 form of f, which on a device gets faces of its size:\n{faster}{missing}"


def _verdicts(aims: list[dict[str, Any]], name: str) -> tuple[str, ...]:
    for aim in aims:
        if aim["network"] == name:
            return (f"{aim['aim']}×", *("met" if aim[key] else "missed" for key in ("met", "met_at_its_size")))
    return ("", "", "")
