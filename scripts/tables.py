"""Write the measured tables of README.md and docs/ from the results in docs/results and models/weights.

    python scripts/tables.py

Where docs/results comes from stands in docs/evaluation.md. A table lives between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/model-card.md", "docs/enrolment.md", "docs/export.md")
PRECISIONS = ("fp32", "int8")
SIDES = {"one_sided": "one-sided", "both_sides": "both sides added"}
AIMS = {"one_sided": 0.93, "both_sides": 0.955}  # accuracy, fp32
STAGES = {"SFace embedding a crop": "backbone/sface", "detection": "detect", "alignment": "align"}
INT8_AIM = 0.005  # int8 from fp32, accuracy


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]).replace(" --- ", "---")


def percent(rate: dict[str, float]) -> str:
    return f"{rate['rate']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"


def pairs(results: dict[str, Any]) -> str:
    rows = []
    for side, name in SIDES.items():
        for precision in PRECISIONS:
            r = results[f"pairs-{precision}"][side]
            accuracy = f"{r['accuracy']:.2%} ± {r['standard_error']:.2%}"
            misses = [percent(r["at_fmr"][point]["fnmr"]) for point in ("fmr1e-2", "fmr1e-3")]
            rows.append([f"{name}, {precision}", accuracy, f"{r['eer']:.2%}", *misses])
    head = ["LFW view 2", "accuracy ± standard error", "EER", "FNMR at FMR 1e-2", "FNMR at FMR 1e-3"]
    return table(head, rows)


def aims(results: dict[str, Any]) -> str:
    rows = []
    for side, name in SIDES.items():
        fp32, int8 = (results[f"pairs-{precision}"][side]["accuracy"] for precision in PRECISIONS)
        rows.append([f"{name}, fp32", f"≥ {AIMS[side]:.1%}", f"{fp32:.2%}", verdict(fp32 >= AIMS[side])])
        gap = abs(int8 - fp32)
        rows.append([f"{name}, int8 from fp32", f"≤ {INT8_AIM:.1%}", f"{gap:.2%}", verdict(gap <= INT8_AIM)])
    return table(["accuracy on LFW view 2", "aim", "reached", ""], rows)


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"


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


def thresholds(results: dict[str, Any]) -> str:
    rows = [
        [number, name, f"{p['threshold']:+.4f}", f"{p['fmr']:.2e}", f"{p['fnmr']:.1%}", f"{p['impostor_pairs']:,}",
         f"{p['genuine_pairs']:,}", str(p["identities"])]
        for number, points in results["h"]["operating_points"].items()
        for name, p in points.items()
    ]  # fmt: skip
    head = ["enrolment photos", "point", "threshold", "FMR", "FNMR", "impostor pairs", "genuine pairs", "people"]
    return table(head, rows)


def weights(results: dict[str, Any]) -> str:
    h, v = results["h"], results["h"]["training"]["validation"]
    t = h["training"]
    return (
        f"Version {h['version']}: generator `{h['generator']}`, backbone `{h['backbone']}`; trained with "
        f"`configs/{t['configuration']}`\non {t['faces']:,} faces ({t['identities']:,} named people). On "
        f"{t['held_out_faces']:,} held-out faces (`val`) its EER at the end of training was\n{v['eer']:.1%} "
        "(single photo, fp32; `models/weights/h.json`)."
    )


def refinement(results: dict[str, Any]) -> str:
    r = results["refinement"]
    rows = [
        [name, *(percent(row["fnmr"][point]) for point in ("fmr1e-2", "fmr1e-3")),
         f"{row['fmr_at_shipped']['fmr1e-3']:.1e}", f"{row['fnmr_at_shipped']['fmr1e-3']:.1%}",
         f"{row['kept']} of {row['people']}" if row["kept"] else "–", f"{row['seconds']:.0f}"]
        for name, row in r["rows"].items()
    ]  # fmt: skip
    head = ["", "FNMR at FMR 1e-2", "FNMR at FMR 1e-3", "FMR at the shipped 1e-3", "FNMR there", "kept", "CPU s"]
    one = r["rows"]["generated"]
    return (
        f"{table(head, rows)}\n\nGenerator {r['generator']['version']}, {r['enrolment_photos']} enrolment photos, "
        f"int8, single probes: {one['genuine_pairs']:,} genuine and {one['impostor_pairs']:,}\nimpostor pairs of "
        f"{one['people']} people, one threshold for all, set on these impostors; a bank of {r['bank_faces']:,} faces."
    )


def _numbers(row: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    return [f"{row[key]:,}" if key in row else "" for key in keys]


def cross(results: dict[str, Any]) -> str:
    keys = ("instructions", "flash_bytes", "ram_bytes", "stack_bytes")
    rows = [
        [row["target"], "equal" if row["bit_exact"] else "**different**", *_numbers(row, keys)]
        for row in results["cross"]["targets"]
    ]
    return table(["target", "every layer", "instructions", "flash, bytes", "RAM, bytes", "stack, bytes"], rows)


TABLES = {f.__name__: f for f in (cross, pairs, aims, latency, thresholds, weights, refinement)}


def read_results() -> dict[str, Any]:
    files = [*sorted((ROOT / "docs" / "results").glob("*.json")), ROOT / "models" / "weights" / "h.json"]
    return {file.stem: json.loads(file.read_text()) for file in files}


def filled(document: str, results: dict[str, Any]) -> str:
    """The document with every marked table written anew."""

    def write(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- {name} -->\n{TABLES[name](results)}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", write, document, flags=re.DOTALL)


def main() -> None:
    results = read_results()
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(filled(path.read_text(), results))


if __name__ == "__main__":
    main()
