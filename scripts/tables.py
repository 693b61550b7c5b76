"""Write docs/results.md, and the tables of README.md and docs/model-card.md, from docs/results and the weights.

    python scripts/tables.py

scripts/results.py writes docs/results. A table lives between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # found from a clone that is not installed, too

from cells import percent, table, verdict
from device_tables import door, instructions, soak, visitors
from speed_tables import cross, latency, peak, peer_latency

from benchmarks.report.build import build
from benchmarks.report.build import read_results as found_results
from benchmarks.report.cells import percent as wide
from benchmarks.report.markdown import to_markdown
from benchmarks.tiny_embedding import open_embedding
from models.ablation import table as ablation_table

ROOT = Path(__file__).parents[1]
PAGES = ("model-card", "enrolment", "export", "ablations", "device")
DOCUMENTS = ("README.md", *(f"docs/{page}.md" for page in PAGES))
PRECISIONS = ("fp32", "int8")
SIDES = {"one_sided": "one-sided", "both_sides": "both sides added"}
AIMS = {"one_sided": 0.97, "both_sides": 0.985}  # accuracy, int8
TMR_AIMS = {"1e-2": 0.93, "1e-3": 0.80}
INTRODUCTION = """

Written by `make results` from `docs/results`, never by hand: run it again to check a number. What the words mean, and
how to choose a threshold: [evaluation.md](evaluation.md). `toolkit report docs/results` shows the same with charts.

"""
INT8_AIM = 0.003


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


def peers(results: dict[str, Any]) -> str:
    systems = results["peers-int8"]["systems"]
    rows = [
        [name, f"{s['accuracy']:.2%} ± {s['standard_error']:.2%}", percent(s["at_fmr"]["fmr1e-3"]["fnmr"]),
         f"{s['params']:,}", f"{s['flops'] / 1e6:,.1f}", f"{s['face_ms']:.3f}" if "face_ms" in s else "–"]
        for name, s in systems.items()
    ]  # fmt: skip
    head = ["LFW view 2, the same pairs", "accuracy", "FNMR at FMR 1e-3", "parameters", "MFLOPs", "ms a face"]
    return table(head, rows)


def aims(results: dict[str, Any]) -> str:
    fp32, int8 = (results[f"pairs-{precision}"] for precision in PRECISIONS)
    rows = [
        at_least(f"accuracy, {name}, int8", AIMS[side], int8[side]["accuracy"], "{:.2%}")
        for side, name in SIDES.items()
    ]
    rows += [
        at_least(f"true match rate at FMR {fmr}, one-sided, int8", aim, tmr(int8["one_sided"], fmr), "{:.3f}")
        for fmr, aim in TMR_AIMS.items()
    ]
    rows += [
        at_most(f"accuracy, {name}, int8 from fp32", INT8_AIM, abs(int8[s]["accuracy"] - fp32[s]["accuracy"]), "{:.2%}")
        for s, name in SIDES.items()
    ]
    return table(["LFW view 2", "aim", "reached", ""], rows)


def people_aims(results: dict[str, Any]) -> str:
    """The aims on the held-out people, int8."""
    photos = results["household-int8"]["enrolment_photos"]["5"]
    fused = photos["fused"]["likelihood_ratio"]
    refined = results["refinement"]["rows"]["refined, as shipped"]
    few = f"{refined['people']} of these people"
    relatives = results["kin-int8"]["enrolment_photos"]["1"]["at_stranger_fmr"]["fmr1e-3"]["fmr_relatives"]["rate"]
    at = results["groups-int8"]["at_fmr"]["fmr1e-3"]
    worst = max(r["rate"] for kind in ("age", "ethnicity") for r in at["by"][kind].values()) / at["fmr"]["rate"]
    rows = [
        at_most("FNMR at FMR 1e-3, 5 enrolment photos, single probe", 0.15, fnmr(photos), "{:.1%}"),
        at_most(f"the same, {photos['fused']['probes']} probes fused", 0.03, fnmr(fused), "{:.1%}"),
        at_most(f"refined, {few}: single probe", 0.08, refined["fnmr"]["fmr1e-3"]["rate"], "{:.1%}"),
        at_most(f"refined, {few}: 5 probes fused", 0.01, refined["fused_fnmr"]["rate"], "{:.1%}"),
        at_most("FMR of relatives at the strangers' 1e-3, one photo", 5e-3, relatives, "{:.1e}"),
        at_most("FMR of the worst age or ethnicity group, times everybody's 1e-3", 3, worst, "{:.1f}"),
    ]
    return table(["held-out people", "aim", "reached", ""], rows)


def at_least(what: str, aim: float, value: float, form: str) -> list[str]:
    return [what, f"≥ {form.format(aim)}", form.format(value), verdict(value >= aim)]


def at_most(what: str, aim: float, value: float, form: str) -> list[str]:
    return [what, f"≤ {form.format(aim)}", form.format(value), verdict(value <= aim)]


def fnmr(side: dict[str, Any]) -> float:
    return float(side["at_fmr"]["fmr1e-3"]["fnmr"]["rate"])


def tmr(side: dict[str, Any], fmr: str) -> float:
    return 1 - float(side["at_fmr"][f"fmr{fmr}"]["fnmr"]["rate"])


def household(results: dict[str, Any]) -> str:
    rows = []
    for precision in PRECISIONS:
        for photos, r in results[f"household-{precision}"]["enrolment_photos"].items():
            fused = r["fused"]
            ratio = fused.get("likelihood_ratio", {"at_fmr": {}})
            cells = [wide(side["at_fmr"].get(point, {}).get("fnmr")) for point in ("fmr1e-2", "fmr1e-3")
                     for side in (r, ratio)]  # fmt: skip
            rows.append([f"{photos}, {precision}", *cells, f"{r['genuine_pairs']:,} / {r['impostor_pairs']:,}"])
    probes = fused["probes"]
    head = ["enrolment photos", "FNMR at FMR 1e-2", f"{probes} probes fused", "FNMR at FMR 1e-3",
            f"{probes} probes fused", "genuine / impostor pairs"]  # fmt: skip
    return table(head, rows)


def weighting(results: dict[str, Any]) -> str:
    rows = []
    for photos, plain in results["household-plain-int8"]["enrolment_photos"].items():
        weighted = results["household-int8"]["enrolment_photos"][photos]
        for name, r in (("plain mean", plain), ("weighted by sharpness", weighted)):
            at = [wide(r["at_fmr"][point]["fnmr"]) for point in ("fmr1e-2", "fmr1e-3")]
            rows.append([f"{photos}, {name}", f"{r['eer']:.2%}", *at])
    return table(["enrolment photos, int8", "EER", "FNMR at FMR 1e-2", "FNMR at FMR 1e-3"], rows)


def kin(results: dict[str, Any]) -> str:
    rows = []
    for precision in PRECISIONS:
        for photos, r in results[f"kin-{precision}"]["enrolment_photos"].items():
            for point, at in r["at_stranger_fmr"].items():
                rates = [wide(at["fmr_relatives"]), f"{at['relatives_over_strangers']:.0f}×", wide(at["fnmr"])]
                rows.append([f"{photos}, {precision}", point, *rates, f"{r['relatives_pairs']:,}"])
    head = ["enrolment photos", "strangers' threshold", "FMR of relatives", "of strangers'", "FNMR", "relative pairs"]
    return table(head, rows)


def groups(results: dict[str, Any]) -> str:
    at = results["groups-int8"]["at_fmr"]["fmr1e-3"]
    overall = at["fmr"]["rate"]
    rows = [["everybody", wide(at["fmr"]), "1.0", f"{at['fmr']['trials']:,}"]]
    for kind, by in at["by"].items():
        for group, r in by.items():
            rows.append([f"{kind} {group}", wide(r), f"{r['rate'] / overall:.1f}", f"{r['trials']:,}"])
    return table(["stranger", "FMR where everybody's is 1e-3", "times everybody's", "pairs"], rows)


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
        f"Version {h['version']}: generator `{h['generator']}`, backbone `{h['backbone']}`; last step: "
        f"`configs/{t['configuration']}`.\nTrained on {t['faces']:,} faces ({t['identities']:,} named people). On "
        f"{t['held_out_faces']:,} held-out faces (`val`) its EER at the end of training was\n{v['eer']:.1%} "
        "(single photo, fp32; `models/weights/h.json`)."
    )


def refinement(results: dict[str, Any]) -> str:
    r = results["refinement"]
    rows = [
        [name, *(percent(row["fnmr"][point]) for point in ("fmr1e-2", "fmr1e-3", "fmr1e-4")),
         f"{row['fmr_at_shipped']['fmr1e-3']:.1e}", f"{row['fnmr_at_shipped']['fmr1e-3']:.1%}",
         f"{row['kept']} of {row['people']}" if row["kept"] else "–", f"{row['seconds']:.0f}"]
        for name, row in r["rows"].items()
    ]  # fmt: skip
    head = ["", *(f"FNMR at FMR {p}" for p in ("1e-2", "1e-3", "1e-4")), "FMR at the shipped 1e-3", "FNMR there",
            "kept", "CPU s"]  # fmt: skip
    one = r["rows"]["generated"]
    return (
        f"{table(head, rows)}\n\nGenerator {r['generator']['version']}, {r['enrolment_photos']} enrolment photos, "
        f"int8, single probes: {one['genuine_pairs']:,} genuine and {one['impostor_pairs']:,}\nimpostor pairs of "
        f"{one['people']} people, one threshold for all, set on these impostors; a bank of {r['bank_faces']:,} faces. "
        "Two points are within doubt."
    )


def flips(results: dict[str, Any]) -> str:
    at = results["flips"]["at"]
    rows = [
        [point, percent(r["flips"]), *(str(r[side]) for side in
         ("genuine_lost", "genuine_won", "impostors_admitted", "impostors_refused"))]
        for point, r in at.items()
    ]  # fmt: skip
    strict = at["fmr1e-3"]["flips"]["rate"]
    head = ["threshold", "decisions flipped", "genuine lost", "genuine won", "impostors admitted", "impostors refused"]
    verdict = f"Aim at fmr1e-3: ≤ 0.30%; reached {strict:.2%}, {'met' if strict <= 0.003 else '**missed**'}."
    return f"{table(head, rows)}\n\n{at['fmr1e-3']['flips']['trials']:,} comparisons. {verdict}"


def embedding(results: dict[str, Any]) -> str:
    """What models/weights/embedding.onnx says of its training."""
    about, params = results["embedding"]
    steps, epochs = f"{about['start_steps']:,}", f"{about['epochs']:g}"
    return (
        f"{params:,} parameters; {steps} steps of `configs/pooled.toml`, then {epochs} epochs of\n"
        f"`configs/embedding.toml`, on {about['faces']:,} faces. On the {about['held_out_faces']:,} held-out faces its "
        f"EER is {about['validation']['eer']:.1%}\n(single photos, fp32)."
    )


def generalisation(results: dict[str, Any]) -> str:
    g = results["generalisation"]
    rows = [
        [system, *(f"{wide(r['fnmr'])}; {r['eer']:.1%}" for r in groups.values())]
        for system, groups in g["rows"].items()
    ]  # fmt: skip
    groups = next(iter(g["rows"].values()))
    pairs = "; ".join(f"{name} {r['genuine_pairs']:,} / {r['impostor_pairs']:,}" for name, r in groups.items())
    head = ["FNMR at FMR 1e-3; EER", *groups]
    return (
        f"{table(head, rows)}\n\n{g['people']} people each; thresholds are set on these impostors; fp32. Generator "
        f"{g['generator']['version']}. Genuine / impostor pairs:\n{pairs}."
    )


def compared(name: str) -> Callable[[dict[str, Any]], str]:
    """The table that `toolkit train --ablate` made, from docs/results/NAME.json."""

    def variants(results: dict[str, Any]) -> str:
        rows = results[name]["variants"]
        return f"{ablation_table(rows)}\n\n{rows[0]['faces']:,} faces shown to each."

    return variants


TABLES = {
    f.__name__: f
    for f in (
        door, visitors, instructions, soak, cross, flips, pairs, peers, aims, people_aims,
        household, weighting, kin, groups, latency, peer_latency, peak, thresholds, weights, embedding, refinement,
        generalisation,
    )
}  # fmt: skip
COMPARISONS = (
    "ablations", "alike", "generators", "forms", "search", "longer", "views", "further", "branches", "joined",
)  # fmt: skip
TABLES |= {name: compared(name) for name in COMPARISONS}


class NotMeasuredError(Exception):
    """A result file that a table needs is not there."""


class Results(dict[str, Any]):
    def __missing__(self, name: str) -> None:
        raise NotMeasuredError(name)


def read_results() -> Results:
    files = [*sorted((ROOT / "docs" / "results").glob("*.json")), ROOT / "models" / "weights" / "h.json"]
    network = open_embedding()
    return Results({file.stem: json.loads(file.read_text()) for file in files},
                   embedding=(network.about, network.count.params))  # fmt: skip


def filled(document: str, results: dict[str, Any]) -> str:
    """The document with every marked table written anew."""

    def write(match: re.Match[str]) -> str:
        name = match[1]
        try:
            written = TABLES[name](results)
        except NotMeasuredError as missing:
            written = f"Not measured for these weights yet: there is no docs/results/{missing}.json."
        return f"<!-- {name} -->\n{written}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", write, document, flags=re.DOTALL)


def results_page() -> str:
    """docs/results.md: the toolkit's result files as `toolkit report` writes them; scripts' own have tables only."""
    report = build(found_results([ROOT / "docs" / "results"]), "Results")
    return to_markdown(report).replace("\n\n", INTRODUCTION, 1)


def main() -> None:
    (ROOT / "docs" / "results.md").write_text(results_page())
    results = read_results()
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(filled(path.read_text(), results))


if __name__ == "__main__":
    main()
