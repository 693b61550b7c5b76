"""`toolkit bench`: size, operations and latency of a bundle on this machine; two such measurements compared."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from toolkit.commands.options import Bundle, Json, Threads
from toolkit.errors import GateError, UsageError
from toolkit.output import command_line, emit, note, table

if TYPE_CHECKING:
    from benchmarks.latency import Timing
    from export.manifest import Bundle as OpenBundle


Peers = Annotated[
    bool, typer.Option("--peers", help="Instead: beside SFace, dlib, MobileFaceNet and YuNet, one thread.")
]
PeerFaces = Annotated[Path | None, typer.Option("--faces", help="With --peers: aligned crops to use.")]
PeerPairs = Annotated[Path | None, typer.Option("--pairs", help="With --peers: a pair list over them, for accuracy.")]
PeerPlot = Annotated[
    Path | None, typer.Option("--plot", help="With --peers: folder for accuracy against latency (PNG).")
]
On = Annotated[str, typer.Option("--on", metavar="HOST", help="Measure there (or adb:SERIAL); deploy first.")]
Raw = Annotated[Path | None, typer.Option(help="Write all raw samples to this JSON file: a baseline.")]
Baseline = Annotated[
    Path | None, typer.Option(help="Compare with these raw samples; exit code 5 if a stage is slower.")
]
Tolerance = Annotated[float, typer.Option(min=0, max=10, help="How much slower nobody minds; 0.1: 10%.")]
Sustained = Annotated[
    float,
    typer.Option("--sustained", min=0, max=86_400, help="Then work that many seconds without a pause, in ten windows."),
]
Samples = Annotated[Path, typer.Argument(help="Raw samples, of `toolkit bench BUNDLE --raw FILE`.", show_default=False)]


class _BundleFirst(TyperGroup):
    """`toolkit bench BUNDLE …` is `toolkit bench measure BUNDLE …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, "-h", "--help"}
        return super().parse_args(ctx, args if not args or args[0] in known else ["measure", *args])


app = typer.Typer(
    cls=_BundleFirst,
    help="What a bundle costs: `toolkit bench BUNDLE` measures, `toolkit bench compare A B` compares two measurements.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def compare(before: Samples, after: Samples, tolerance: Tolerance = 0.1, json: Json = False) -> None:
    """Is AFTER slower than BEFORE? By stage: ratio of medians, its 95% interval, Mann-Whitney's p. Exit code 5: yes.

    A stage is slower if both say so: p below 1% for all stages together, and an interval beyond the tolerance.
    """
    from benchmarks.compare import read_baseline

    second = read_baseline(after)
    first = _baseline(before, second.get("threads"))
    rows = _compare(first, second, tolerance, f"{before} and {after}")
    result = {"kind": "comparison", "before": before.name, "after": after.name, "tolerance": tolerance,
              "comparison": rows}  # fmt: skip
    emit(result, json, lambda: _human_comparison(rows))
    _check_regression(result, before)


@app.command("measure")
def bench(
    bundle: Bundle,
    runs: Annotated[int, typer.Option(min=20, help="Timed runs of the verifier; slower stages get a tenth.")] = 500,
    threads: Threads = 1,
    peers: Peers = False,
    faces: PeerFaces = None,
    pairs: PeerPairs = None,
    plot: PeerPlot = None,
    on: On = "",
    raw: Raw = None,
    baseline: Baseline = None,
    tolerance: Tolerance = 0.1,
    sustained: Sustained = 0.0,
    json: Json = False,
) -> None:
    """Parameters, MACs and FLOPs (from the spec, and counted again from the ONNX file and by its runtime's profiler),
    file sizes, latency of every stage in every installed runtime, on one thread and on all cores, cold start, memory.

    One multiply-accumulate counts as two FLOPs. SFace embedding a crop in the same run is the yardstick.

    --baseline compares medians by stage: slower is what Mann-Whitney's test and the ratio's 95% interval both say.
    """
    from export.manifest import open_bundle

    _check_usage(peers, bool(on or baseline or sustained or raw or threads > 1), bool(faces or pairs or plot))
    if peers:
        from toolkit.commands.peers import bench_peers

        return bench_peers(open_bundle(bundle), runs, faces, pairs, plot, json)
    opened, before = open_bundle(bundle), _baseline(baseline, threads) if baseline else None
    facts = {"kind": "bench", "command": command_line(), "bundle": bundle.name, **_counts(opened)}
    measured = (partial(_measure_on, on) if on else _measure_here)(bundle, runs, threads, sustained)
    result = facts | _summaries(measured, threads)
    if raw:
        _save_raw(raw, measured, threads)
    if before:
        result["comparison"] = _compare(before, measured, tolerance, f"{baseline} and this measurement")
    emit(result, json, lambda: _human(result))
    return _check_regression(result, baseline)


def _check_usage(peers: bool, devices: bool, accuracy: bool) -> None:
    """Raises UsageError for options that do not belong together."""
    if peers and devices:
        what = "--peers measures here, on one thread, and compares with other networks"
        raise UsageError(what, do="leave out --on, --baseline, --sustained, --raw and --threads")
    if accuracy and not peers:
        raise UsageError("--faces, --pairs and --plot belong to --peers", do="add --peers")


def _baseline(path: Path, threads: int | None) -> dict[str, Any]:
    """Raises UsageError for one of another number of threads; files of before do not say how many."""
    from benchmarks.compare import read_baseline

    before = read_baseline(path)
    was = before.get("threads", threads)
    if threads is not None and was != threads:
        raise UsageError(f"{path} was measured with another number of threads", got=was, expected=threads,
                         do="measure both with the same --threads")  # fmt: skip
    return before


def _check_regression(result: dict[str, Any], baseline: Path | None) -> None:
    """Exit with the gate's code when a stage is slower than the baseline."""
    slower = [row["stage"] for row in result.get("comparison", []) if row["slower"]]
    if slower:
        note(f"slower than {baseline}: {', '.join(slower)}")
        raise typer.Exit(GateError.exit_code)


def _counts(bundle: OpenBundle) -> dict[str, Any]:
    """Raises GateError when the file, or what its runtime sees of it, is not what the spec says."""
    from export.manifest import FILES, MODELS

    spec = bundle.spec
    counts: dict[str, Any] = {"params": spec.params, "macs": spec.macs, "flops": spec.flops}
    counts["file_bytes"] = {name: len(bundle.read(name)) for name in FILES if name in bundle.manifest["files"]}
    uncounted = counts | {"counted_from_onnx": None, "counted_by_profiler": None}
    if MODELS["onnx", "fp32"] not in bundle.manifest["files"]:  # as `export-batch` leaves it out
        return uncounted
    try:
        from benchmarks.graph_count import count_onnx, count_profiled
    except ImportError:
        return uncounted
    for name, way in (("counted_from_onnx", count_onnx), ("counted_by_profiler", count_profiled)):
        count = way(bundle.read(MODELS["onnx", "fp32"]))
        if (count.params, count.macs) != (spec.params, spec.macs):
            raise GateError(
                f"the ONNX file does not match the spec ({name.replace('_', ' ')})",
                got=f"{count.params} parameters, {count.macs} MACs",
                expected=f"{spec.params} and {spec.macs}",
                do="enrol again",
            )
        counts[name] = {"params": count.params, "macs": count.macs, "flops": 2 * count.macs}
    return counts


def _measure_here(bundle: Path, runs: int, threads: int, sustained: float) -> dict[str, Any]:
    from benchmarks.latency import backbone_latency
    from benchmarks.on_device import measure_bundle

    measured = measure_bundle(bundle, runs, threads, sustained)
    yardstick = _yardstick(backbone_latency, runs)
    if yardstick:
        measured["samples_ms"]["backbone/sface"] = yardstick.samples_ms
    return measured


def _measure_on(host: str, bundle: Path, runs: int, threads: int, sustained: float) -> dict[str, Any]:
    from device.link.adb import bench as bench_on_phone
    from device.link.adb import is_phone
    from device.link.deploy import bench as bench_on
    from device.link.package import Goods
    from toolkit.commands.keys import open_keys

    goods = Goods(bundle, open_keys())
    if not is_phone(host):
        return bench_on(host, goods, runs, threads, sustained)
    if sustained or threads != 1:
        raise UsageError("on a phone the verifier is timed alone, on one thread", do="leave out --sustained, --threads")
    return bench_on_phone(host, goods, runs)


def _summaries(measured: dict[str, Any], threads: int) -> dict[str, Any]:
    from benchmarks.latency import Timing

    latency = {name: Timing(tuple(samples)).summary() for name, samples in measured["samples_ms"].items()}
    result = {key: value for key, value in measured.items() if key != "samples_ms"}
    result |= {"threads": threads, "latency": latency}
    if "backbone/sface" in latency:
        reference = latency["backbone/sface"]["p50_ms"]
        result["times_faster_than_sface"] = {
            name.removeprefix("verify/"): reference / summary["p50_ms"]
            for name, summary in latency.items()
            if name.startswith("verify/")
        }
    return result


def _compare(before: dict[str, Any], measured: dict[str, Any], tolerance: float, both: str) -> list[dict[str, Any]]:
    """Raises UsageError, naming `both`, without a stage in common: a gate that compares nothing must not pass."""
    from benchmarks.compare import compare

    was, now = before["device"].get("processor"), measured["device"]["processor"]
    if was != now:
        note(f"the baseline was measured on another machine: {was}, now {now}")
    rows = compare(before["samples_ms"], measured["samples_ms"], tolerance)
    if not rows:
        raise UsageError(f"{both} have no stage in common", do="measure both with one version, in one way")
    return rows


def _yardstick(measure_backbone: Any, runs: int) -> Timing | None:
    """A device has no onnx package to fold the backbone with; then there is no yardstick."""
    try:
        timing: Timing | None = measure_backbone("sface", runs)
    except ImportError:
        return None
    return timing


def _save_raw(path: Path, measured: dict[str, Any], threads: int) -> None:
    import json

    from toolkit.atomic import write_atomically

    kept = {key: measured[key] for key in ("samples_ms", "device", "conditions")}
    document = {"schema_version": 1, "threads": threads, **kept}
    write_atomically(path, json.dumps(document).encode(), mode=0o644)


def _human(r: dict[str, Any]) -> str:
    counted = (
        "the ONNX file and its runtime's profiler agree"
        if r["counted_from_onnx"]
        else "not counted again: that takes the bundle's fp32 ONNX file and onnx"
    )
    head = [
        f"{r['params']} parameters, {r['macs'] / 1e6:.2f} MMACs = {r['flops'] / 1e6:.2f} MFLOPs ({counted})",
        "files: " + ", ".join(f"{name} {size / 1000:.0f} KB" for name, size in r["file_bytes"].items()),
        "peak memory: " + ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in r["peak_memory_bytes"].items()),
        "cold start: " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in r.get("cold_start_ms", {}).items()),
        f"{r['device']['processor']}, {r['threads']} thread",
    ]
    if peak := r.get("int8_peak"):
        head.append(
            f"C int8: {peak['achieved_macs_per_s'] / 1e9:.1f} G multiply-accumulates a second, "
            f"{peak['share_of_peak']:.0%} of this core's {peak['macs_per_s'] / 1e9:.0f} G ({peak['instructions']})"
        )
    faster = r.get("times_faster_than_sface", {})
    rows = []
    for name, s in r["latency"].items():
        ratio = faster.get(name.removeprefix("verify/"))
        rows.append((name, f"{s['p50_ms']:.3f}", f"{s['p90_ms']:.3f}", f"{s['p99_ms']:.3f}", str(s["runs"]),
                     f"{ratio:.0f}×" if ratio and name.startswith("verify/") else ""))  # fmt: skip
    text = "\n".join(head) + "\n\n"
    text += table(rows, ("stage", "p50 ms", "p90 ms", "p99 ms", "runs", "faster than SFace"))
    if r.get("sustained"):
        text += "\n\n" + _human_sustained(r["sustained"])
    if r.get("comparison"):
        text += "\n\n" + _human_comparison(r["comparison"])
    return text


def _human_sustained(sustained: dict[str, Any]) -> str:
    def cell(value: float | None) -> str:
        return "–" if value is None else f"{value:.0f}"

    rows = [
        (str(i), str(w["runs"]), f"{w['p50_ms']:.3f}", f"{w['p99_ms']:.3f}",
         *(cell(w["conditions"][name]) for name in ("temperature_c", "clock_mhz")))
        for i, w in enumerate(sustained["windows"], 1)
    ]  # fmt: skip
    head = f"{sustained['seconds']:g} s of {sustained['form']} end to end; slowdown {sustained['slowdown']:.3f}"
    return f"{head}\n" + table(rows, ("window", "runs", "p50 ms", "p99 ms", "°C", "MHz"))


def _human_comparison(comparison: list[dict[str, Any]]) -> str:
    rows = [
        (row["stage"], f"{row['ratio']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}", f"{row['p']:.2g}",
         "slower" if row["slower"] else "")
        for row in comparison
    ]  # fmt: skip
    return table(rows, ("stage", "now / baseline", "95% interval", "p", ""))
