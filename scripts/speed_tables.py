"""The tables of speed and size: this machine's, other systems', other processors'."""

from __future__ import annotations

from typing import Any

from cells import table, verdict

STAGES = {"SFace embedding a crop": "backbone/sface", "detection": "detect", "alignment": "align"}


def latency(results: dict[str, Any]) -> str:
    times, faster = results["bench"]["latency"], results["bench"]["times_faster_than_sface"]
    rows = [
        [key, f"{times[f'verify/{key}']['p50_ms']:.3f}", f"{times[f'verify/{key}']['p90_ms']:.3f}",
         f"{times[f'end_to_end/{key}']['p50_ms']:.1f}", f"{factor:.0f}×"]
        for key, factor in faster.items()
    ]  # fmt: skip
    head = ["runtime / file", "verifier p50, ms", "p90", "detect + align + verify p50, ms", "faster than SFace"]
    stages = (f"{stage} {times[key]['p50_ms']:.2f} ms" for stage, key in STAGES.items())
    device = results["bench"]["device"]["processor"]
    return f"{table(head, rows)}\n\nOne thread of {device}, one run; in it, p50: {', '.join(stages)}."


def peer_latency(results: dict[str, Any]) -> str:
    r = results["peer-latency"]
    rows = [
        [row["name"], f"{row['params']:,}", f"{row['macs'] / 1e6:,.1f}", f"{row['file_bytes'] / 1000:,.0f}",
         f"{row['p50_ms']:.3f}", f"{row['at_its_size']['p50_ms']:.3f}" if "at_its_size" in row else "",
         f"{row['accuracy']:.2%}" if row.get("accuracy") else ""]
        for row in r["peers"] if "p50_ms" in row
    ]  # fmt: skip
    head = ["", "parameters", "MMAC", "kB", "p50, ms a face", "of its size", "LFW view 2"]
    aims = [
        f"{a['reached']:.0f}× faster than {a['network']} with shrinking ({verdict(a['met'])}: {a['aim']}×), "
        f"{a['reached_at_its_size']:.0f}× without ({verdict(a['met_at_its_size'])})"
        for a in r["aims"]
    ]
    return f"{table(head, rows)}\n\nOne run, one thread of {r['device']['processor']}. {'; '.join(aims)}."


def peak(results: dict[str, Any]) -> str:
    p = results["bench"].get("int8_peak")
    if p is None:
        return "Not measured yet: `docs/results/bench.json` is older than this."
    share, target = p["share_of_peak"], 0.3
    return (
        f"In `bench.json` the C code makes {p['achieved_macs_per_s'] / 1e9:.1f} G multiply-accumulates a second, "
        f"{share:.0%} of the core's {p['macs_per_s'] / 1e9:.0f} G\n({p['instructions']}). "
        f"The target, {target:.0%}, is {verdict(share >= target)}."
    )


def cross(results: dict[str, Any]) -> str:
    keys = ("instructions", "flash_bytes", "ram_bytes", "stack_bytes")
    rows = [
        [row["target"], "equal" if row["bit_exact"] else "**different**", *_numbers(row, keys)]
        for row in results["cross"]["targets"]
    ]
    return table(["target", "every layer", "instructions", "flash, bytes", "RAM, bytes", "stack, bytes"], rows)


def _numbers(row: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    return [f"{row[key]:,}" if key in row else "" for key in keys]
