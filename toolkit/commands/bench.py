"""`toolkit bench`: size, operations and latency of a bundle on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import Bundle, Json, Threads
from toolkit.errors import GateError, UsageError
from toolkit.output import command_line, emit, table

if TYPE_CHECKING:
    from benchmarks.latency import Timing
    from export.manifest import Bundle as OpenBundle


def bench(
    bundle: Bundle,
    runs: Annotated[int, typer.Option(min=20, help="Timed runs of the verifier; slower stages get a tenth.")] = 500,
    threads: Threads = 1,
    peers: Annotated[
        bool, typer.Option("--peers", help="Instead: beside SFace, dlib, MobileFaceNet and YuNet, one thread.")
    ] = False,
    faces: Annotated[Path | None, typer.Option("--faces", help="With --peers: aligned crops to use.")] = None,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="With --peers: a pair list over them, for accuracy.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="With --peers: folder for accuracy against latency (PNG).")
    ] = None,
    raw: Annotated[Path | None, typer.Option(help="Write all raw samples to this JSON file.")] = None,
    json: Json = False,
) -> None:
    """Parameters, MACs and FLOPs (from the spec, and counted again from the ONNX file), file sizes, latency of every
    stage in every installed runtime, peak memory, and the machine.

    One multiply-accumulate counts as two FLOPs. SFace embedding a crop in the same run is the yardstick.
    """
    from export.manifest import open_bundle

    opened = open_bundle(bundle)
    if peers:
        from toolkit.commands.peers import bench_peers

        bench_peers(opened, runs, faces, pairs, plot, json)
        return
    if faces or pairs or plot:
        raise UsageError("--faces, --pairs and --plot belong to --peers", do="add --peers")
    result: dict[str, Any] = {
        "kind": "bench",
        "command": command_line(),
        "bundle": bundle.name,
        **_counts(opened),
        **_times(opened, runs, threads, raw),
    }
    result["peak_memory_bytes"] = _memory(bundle)
    emit(result, json, lambda: _human(result))


def _counts(bundle: OpenBundle) -> dict[str, Any]:
    """Raises GateError when the file is not what the spec says."""
    from export.manifest import FILES, MODELS

    spec = bundle.spec
    counts: dict[str, Any] = {"params": spec.params, "macs": spec.macs, "flops": spec.flops}
    counts["file_bytes"] = {name: len(bundle.read(name)) for name in FILES if name in bundle.manifest["files"]}
    try:
        from benchmarks.graph_count import count_onnx
    except ImportError:
        return counts | {"counted_from_onnx": None}
    count = count_onnx(bundle.read(MODELS["onnx", "fp32"]))
    if (count.params, count.macs) != (spec.params, spec.macs):
        raise GateError(
            "the ONNX file does not match the spec",
            got=f"{count.params} parameters, {count.macs} MACs",
            expected=f"{spec.params} and {spec.macs}",
            do="enrol again",
        )
    return counts | {"counted_from_onnx": {"params": count.params, "macs": count.macs, "flops": 2 * count.macs}}


def _times(bundle: OpenBundle, runs: int, threads: int, raw: Path | None) -> dict[str, Any]:
    from benchmarks.facts import device_facts
    from benchmarks.latency import backbone_latency, stage_latencies

    timings = stage_latencies(bundle, runs, threads)
    yardstick = _yardstick(backbone_latency, runs)
    if yardstick:
        timings["backbone/sface"] = yardstick
    latency = {name: timing.summary() for name, timing in timings.items()}
    result: dict[str, Any] = {"threads": threads, "latency": latency, "device": device_facts()}
    if yardstick:
        reference = latency["backbone/sface"]["p50_ms"]
        result["times_faster_than_sface"] = {
            name.removeprefix("verify/"): reference / summary["p50_ms"]
            for name, summary in latency.items()
            if name.startswith("verify/")
        }
    if raw:
        _save_raw(raw, timings, result["device"])
    return result


def _yardstick(measure_backbone: Any, runs: int) -> Timing | None:
    """A device has no onnx package to fold the backbone with; then there is no yardstick."""
    try:
        timing: Timing | None = measure_backbone("sface", runs)
    except ImportError:
        return None
    return timing


def _save_raw(path: Path, timings: dict[str, Timing], device: dict[str, Any]) -> None:
    import json

    from toolkit.atomic import write_atomically

    samples = {name: timing.samples_ms for name, timing in timings.items()}
    document = {"schema_version": 1, "samples_ms": samples, "device": device}
    write_atomically(path, json.dumps(document).encode(), mode=0o644)


def _memory(bundle: Path) -> dict[str, int]:
    from benchmarks.latency import peak_memory_bytes
    from device.runtimes import installed_runtimes

    return {runtime: peak_memory_bytes(bundle, runtime) for runtime in installed_runtimes()}


def _human(r: dict[str, Any]) -> str:
    counted = "the ONNX file agrees" if r["counted_from_onnx"] else "not counted again: onnx is not installed"
    head = [
        f"{r['params']} parameters, {r['macs'] / 1e6:.2f} MMACs = {r['flops'] / 1e6:.2f} MFLOPs ({counted})",
        "files: " + ", ".join(f"{name} {size / 1000:.0f} KB" for name, size in r["file_bytes"].items()),
        "peak memory: " + ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in r["peak_memory_bytes"].items()),
        f"{r['device']['processor']}, {r['threads']} thread",
    ]
    faster = r.get("times_faster_than_sface", {})
    rows = []
    for name, s in r["latency"].items():
        ratio = faster.get(name.removeprefix("verify/"))
        rows.append((name, f"{s['p50_ms']:.3f}", f"{s['p90_ms']:.3f}", f"{s['p99_ms']:.3f}", str(s["runs"]),
                     f"{ratio:.0f}×" if ratio and name.startswith("verify/") else ""))  # fmt: skip
    return "\n".join(head) + "\n\n" + table(rows, ("stage", "p50 ms", "p90 ms", "p99 ms", "runs", "faster than SFace"))
