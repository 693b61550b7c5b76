"""Which tables and charts each kind of result file becomes."""

from __future__ import annotations

from typing import Any

from benchmarks.report.cells import accuracy, fnmr, number, percent, photos, share
from benchmarks.report.document import Axis, Chart, Section, Series, Table

Results = dict[str, dict[str, Any]]  # name of the file → its content
RATE = Axis("false match rate", 1e-5, 1, log=True, percent=True)
MISS = Axis("false non-match rate", 1e-3, 1, log=True, percent=True)
SIDES = {"one_sided": "one-sided", "both_sides": "both sides"}


MEASURES = ("EER", "FNMR at FMR 1e-2", "FNMR at FMR 1e-3", "d′", "Cllr", "min Cllr", "genuine", "impostor")


def _measures(r: dict[str, Any]) -> tuple[str, ...]:
    return (share(r["eer"]), fnmr(r, "fmr1e-2"), fnmr(r, "fmr1e-3"), number(r.get("d_prime")),
            number(r.get("cllr")), number(r.get("min_cllr")), f"{r['genuine_pairs']:,}",
            f"{r['impostor_pairs']:,}")  # fmt: skip


def scored_of(results: Results) -> dict[str, dict[str, Any]]:
    """Everything that has a DET curve, by its label."""
    found: dict[str, dict[str, Any]] = {}
    for name, r in results.items():
        if r["kind"] == "pairs":
            found |= {f"{name}, {label}": r[side] for side, label in SIDES.items()}
        elif r["kind"] == "household":
            found |= {f"{name}, {photos(n)}": inside for n, inside in r["enrolment_photos"].items()}
        elif r["kind"] == "scores":
            found[name] = r
    return found


def det_chart(scored: dict[str, dict[str, Any]]) -> Chart:
    low = min(1 / (2 * s["impostor_pairs"]) for s in scored.values())
    floor = min(1 / (2 * s["genuine_pairs"]) for s in scored.values())
    series = []
    for label, s in scored.items():
        det = s["curves"]["det"]
        series.append(Series(label, [max(v, low) for v in det["fmr"]], [max(v, floor) for v in det["fnmr"]], "step"))
    says = "Detection error trade-off. " + " ".join(
        f"{label}: equal error rate {share(s['eer'])}, FNMR {fnmr(s, 'fmr1e-2')} at FMR 1e-2."
        for label, s in scored.items()
    )
    x, y = (Axis(a.label, max(limit, 1e-6), 1, a.log, a.percent) for a, limit in ((RATE, low), (MISS, floor)))
    return Chart("DET curve", x, y, series, says)


def histogram_chart(label: str, s: dict[str, Any]) -> Chart:
    h = s["curves"]["histogram"]
    middles = [(a + b) / 2 for a, b in zip(h["edges"], h["edges"][1:], strict=False)]
    peak = max(*h["genuine"], *h["impostor"])
    series = [Series(kind, middles, h[kind], "area") for kind in ("genuine", "impostor")]
    says = f"Shares of genuine and impostor scores. Their means are {number(s['d_prime'])} deviations apart (d′)."
    x, y = Axis("score", h["edges"][0], h["edges"][-1]), Axis("share", 0, 1.05 * peak, percent=True)
    return Chart(f"Scores: {label}", x, y, series, says)


def reliability_chart(scored: dict[str, dict[str, Any]]) -> Chart:
    series = [Series("perfect", [0, 1], [0, 1])]
    for label, s in scored.items():
        rows = s["curves"].get("reliability", [])
        series.append(Series(label, [r["claimed"] for r in rows], [r["observed"] for r in rows]))
    says = "Claimed against observed probability that a comparison is genuine, equal priors; the diagonal is perfect."
    axes = Axis("claimed probability", 0, 1, percent=True), Axis("observed share", 0, 1, percent=True)
    return Chart("Reliability of likelihood ratios", *axes, series, says)


def zoo_chart(label: str, animals: dict[str, Any]) -> Chart:
    people = animals["people"]
    x, y = people["impostor"], people["genuine"]
    pad = 0.05 * max(1e-6, max(x) - min(x)), 0.05 * max(1e-6, max(y) - min(y))
    axes = (Axis("mean impostor score (lambs: right)", min(x) - pad[0], max(x) + pad[0]),
            Axis("mean genuine score (goats: low)", min(y) - pad[1], max(y) + pad[1]))  # fmt: skip
    says = f"Each dot is one of {len(x)} enrolled people, without a name. {_carried(animals)}"
    return Chart(f"Zoo: {label}", *axes, [Series("people", x, y, "dots")], says)


ANIMALS = {
    "goats": "false non-matches (goats)",
    "lambs": "false matches by verifier (lambs)",
    "wolves": "false matches by person shown (wolves)",
}


def _carried(animals: dict[str, Any]) -> str:
    shares = [(name, animals.get(key, {}).get("share_of_worst_tenth")) for key, name in ANIMALS.items()]
    told = [f"{share(carried)} of the {name}" for name, carried in shares if carried is not None]
    return f"The worst tenth of people carry {', '.join(told)}." if told else ""


def pairs_section(results: Results) -> Section:
    rows, scored = [], scored_of(results)
    for name, r in results.items():
        for side, label in SIDES.items():
            s = r[side]
            rows.append((f"{name}, {label}", accuracy(s), *_measures(s)))
    table = Table("Pair verification", ("", "accuracy", *MEASURES), rows, "Cllr and min Cllr in bits.")
    charts = [det_chart(scored), *(histogram_chart(label, s) for label, s in scored.items()), reliability_chart(scored)]
    text = "One photo enrolled, one photo shown; thresholds of FMR are set on these same impostors."
    return Section("Pairs", text, [table], charts)


def household_section(results: Results) -> Section:
    scored = scored_of(results)
    rows = [(label, *_measures(s)) for label, s in scored.items()]
    fused = [row for label, s in scored.items() for row in _fused_rows(label, s)]
    tables = [Table("Single probes", ("", *MEASURES), rows)]
    if fused:
        head = ("", "EER", "FNMR at FMR 1e-2", "FNMR at FMR 1e-3", "genuine", "impostor")
        tables.append(Table("Fused probes", head, fused, "Likelihood ratios are fitted on other people's verifiers."))
    if animals := [_animals_row(label, s["zoo"]) for label, s in scored.items() if s.get("zoo")]:
        note = (
            "Share of the errors at FMR 1e-2 that the worst tenth of people carry; Kruskal and Wallis's p in brackets."
        )
        tables.append(Table("Whom errors fall on", ("", *ANIMALS.values()), animals, note))
    zoos = [zoo_chart(label, s["zoo"]) for label, s in scored.items() if s.get("zoo")]
    text = "Everybody enrolled from their first photos; their others are genuine, everyone else's are impostors."
    return Section("Household", text, tables, [det_chart(scored), reliability_chart(scored), *zoos])


def _animals_row(label: str, animals: dict[str, Any]) -> tuple[str, ...]:
    found = [animals.get(name, {}) for name in ANIMALS]
    cells = [f"{share(a['share_of_worst_tenth'])} ({a['kruskal_wallis_p']:.1e})"
             if a.get("share_of_worst_tenth") is not None else "–" for a in found]  # fmt: skip
    return (label, *cells)


def _fused_rows(label: str, s: dict[str, Any]) -> list[tuple[str, ...]]:
    fused = s.get("fused", {})
    return [
        (f"{label}, {fused['probes']} probes by {method.replace('_', ' ')}", share(f["eer"]), fnmr(f, "fmr1e-2"),
         fnmr(f, "fmr1e-3"), f"{f['genuine_trials']:,}", f"{f['impostor_trials']:,}")
        for method, f in fused.items()
        if method != "probes"
    ]  # fmt: skip


def flips_section(results: Results) -> Section:
    rows = [
        (f"{name} at {point}", percent(at["flips"]), str(at["genuine_lost"]), str(at["genuine_won"]),
         str(at["impostors_admitted"]), str(at["impostors_refused"]))
        for name, r in results.items() for point, at in r["at"].items()
    ]  # fmt: skip
    head = ("", "decisions flipped", "genuine lost", "genuine won", "impostors admitted", "impostors refused")
    text = "Decisions that the int8 file takes otherwise than the fp32 file of the same person, at the same threshold."
    return Section("Quantisation", text, [Table("Flipped decisions", head, rows)], [])


def kin_section(results: Results) -> Section:
    rows, names, dots = [], [], {"relatives": [], "strangers": []}  # type: ignore[var-annotated]
    for name, r in results.items():
        for count, s in r["enrolment_photos"].items():
            for point, at in s["at_stranger_fmr"].items():
                label = f"{name}, {photos(count)}, {point}"
                ratio = at["relatives_over_strangers"]
                counts = f"{s['relatives_pairs']:,}", f"{s['strangers_pairs']:,}"
                rates = percent(at["fmr_relatives"]), percent(at["fmr_strangers"])
                rows.append(
                    (label, *rates, f"{ratio:.1f}" if ratio is not None else "–", percent(at.get("fnmr")), *counts)
                )
                if point == "fmr1e-3":
                    names.append(f"{name}, {count}")
                    for who, found in dots.items():
                        found.append(at[f"fmr_{who}"])
    head = ("", "FMR of relatives", "FMR of strangers", "times", "FNMR", "relative pairs", "stranger pairs")
    table = Table("Relatives at the strangers' threshold", head, rows)
    charts = [rates_chart("Relatives and strangers at FMR 1e-3", names, dots)] if names else []
    return Section("Relatives", "How often a person's verifier accepts the person's family.", [table], charts)


def rates_chart(title: str, names: list[str], dots: dict[str, list[dict[str, Any]]]) -> Chart:
    """Rates with intervals, one row a name, one series a key; rates of zero lie at the left edge."""
    everything = [r for rates in dots.values() for r in rates]
    low = min([r["rate"] for r in everything if r["rate"]], default=1e-4)
    x = Axis("false match rate", 10 ** floor_power(low / 2), 1 if max(r["high"] for r in everything) > 0.1 else 0.1,
             log=True, percent=True)  # fmt: skip
    rows = [float(i) for i in range(len(names))]
    series = [
        Series(who, [r["rate"] for r in rates], rows, "dots", [r["low"] for r in rates], [r["high"] for r in rates])
        for who, rates in dots.items()
    ]
    says = f"{title}. " + " ".join(
        f"{who}, {name}: {percent(r)}." for who, rates in dots.items() for name, r in zip(names, rates, strict=True)
    )
    return Chart(title, x, Axis("", -0.6, len(names) - 0.4, names=tuple(names)), series, says)


def floor_power(value: float) -> int:
    from math import floor, log10

    return floor(log10(value))


def groups_section(results: Results) -> Section:
    tables, charts = [], []
    for name, r in results.items():
        for point, at in r["at_fmr"].items():
            overall = at["fmr"]["rate"]
            flat = [(kind, group, rate) for kind, by in at["by"].items() for group, rate in by.items()]
            rows = [("everybody", percent(at["fmr"]), "1.0", f"{at['fmr']['trials']:,}")]
            rows += [(f"{kind} {group}", percent(rate), f"{rate['rate'] / overall:.1f}" if overall else "–",
                      f"{rate['trials']:,}") for kind, group, rate in flat]  # fmt: skip
            tables.append(Table(f"{name} at {point}", ("stranger", "FMR", "times overall", "pairs"), rows))
            if point == "fmr1e-3":
                title = f"{name}: FMR by group at an overall FMR of 1e-3"
                names = ["everybody", *(f"{group}" for _, group, _ in flat)]
                charts.append(rates_chart(title, names[::-1], {"FMR": [at["fmr"], *(r for _, _, r in flat)][::-1]}))
    text = "Strangers by age, sex and ethnicity, in the coding and words of the set that they come from; one threshold."
    return Section("Groups", text, tables, charts)


def scores_section(results: Results) -> Section:
    scored = scored_of(results)
    table = Table("Scores", ("", *MEASURES), [(name, *_measures(s)) for name, s in scored.items()])
    charts = [det_chart(scored), *(histogram_chart(name, s) for name, s in scored.items())]
    return Section("Scores of other systems", "Measured from score files.", [table], charts)
