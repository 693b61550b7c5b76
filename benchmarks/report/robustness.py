"""What becomes of errors when photos get worse, and of raw photographs: their sections of a report."""

from __future__ import annotations

from typing import Any

from benchmarks.report.cells import percent, share
from benchmarks.report.document import Axis, Chart, Section, Series, Table
from benchmarks.report.sections import Results

FAILURES = {"people not enrolled (FTE)": "failure_to_enrol", "photos not usable (FTA)": "failure_to_acquire"}
TITLES = {
    "blur": "Blur",
    "dark": "Dark",
    "jpeg": "JPEG",
    "resolution": "Low resolution",
    "occlusion": "Occlusion",
}


def robustness_section(results: Results) -> Section:
    tables, charts = [], []
    for name, r in results.items():
        tables += [_steps_table(name, r), _pose_table(name, r)]
        charts += [_condition_chart(f"{TITLES[c]}: {name}", r, found) for c, found in r["conditions"].items()]
        charts.append(_pose_chart(f"Pose: {name}", r))
    text = "The enrolled photo stays as it is; the shown one gets worse. Thresholds are those of the unchanged photos."
    return Section("Robustness", text, tables, charts)


def _steps_table(name: str, r: dict[str, Any]) -> Table:
    points = list(r["thresholds"])
    head = ("", *(f"{kind} at {point}" for point in points for kind in ("FNMR", "FMR")), "refused by quality")
    rows = [("unchanged", *_cells(r["unchanged"], points))]
    for condition, found in r["conditions"].items():
        rows += [(f"{condition} {step['level']:g}", *_cells(step, points)) for step in found["levels"]]
    about = "; ".join(f"{condition}: {found['about']}" for condition, found in r["conditions"].items())
    return Table(
        f"Photos made worse: {name}", head, rows, f"{about}. “Refused”: the device would ask for another photo."
    )


def _cells(step: dict[str, Any], points: list[str]) -> tuple[str, ...]:
    rates = [percent(step["at"][point][kind]) for point in points for kind in ("fnmr", "fmr")]
    return (*rates, percent(step["refused"]))


def _pose_table(name: str, r: dict[str, Any]) -> Table:
    points, turned = list(r["thresholds"]), r["pose"]
    rows = [(f"{found['low']:g} to {found['high']:g}", *(percent(found["at"][point]["fnmr"]) for point in points),
             f"{next(iter(found['at'].values()))['fnmr']['trials']:,}") for found in turned["ranges"]]  # fmt: skip
    note = (
        f"{turned['about']}; 0.45 is where the device's quality check refuses. {turned['beyond']} genuine pairs lie "
        f"beyond it, and of {turned['unknown']} no landmarks were found."
    )
    head = ("turned by", *(f"FNMR at {point}" for point in points), "genuine")
    return Table(f"Faces turned away: {name}", head, rows, note)


def _condition_chart(title: str, r: dict[str, Any], found: dict[str, Any]) -> Chart:
    steps = [{"level": found["clean"], **r["unchanged"]}, *found["levels"]]
    levels = [float(step["level"]) for step in steps]
    series = [Series(f"FNMR at {point}", levels, [step["at"][point]["fnmr"]["rate"] for step in steps])
              for point in r["thresholds"]]  # fmt: skip
    series.append(Series("refused by quality", levels, [step["refused"]["rate"] for step in steps]))
    return _rate_chart(title, Axis(found["about"], min(levels), max(levels)), series)


def _pose_chart(title: str, r: dict[str, Any]) -> Chart:
    ranges = r["pose"]["ranges"]
    middles = [(found["low"] + found["high"]) / 2 for found in ranges]
    series = [Series(f"FNMR at {point}", middles, [found["at"][point]["fnmr"]["rate"] for found in ranges])
              for point in r["thresholds"]]  # fmt: skip
    return _rate_chart(title, Axis("turned by, eye distances", 0.0, max(found["high"] for found in ranges)), series)


def _rate_chart(title: str, x: Axis, series: list[Series]) -> Chart:
    told = [f"{s.label} goes from {share(s.y[0])} at {s.x[0]:g} to {share(s.y[-1])} at {s.x[-1]:g}." for s in series]
    return Chart(title, x, Axis("share of comparisons", 0, 1, percent=True), series, f"{x.label}. {' '.join(told)}")


def photographs_section(results: Results) -> Section:
    """Raw photographs: who could be enrolled, which photos could be used, and errors within a time."""
    acquired, within = [], []
    for name, r in results.items():
        for what, key in FAILURES.items():
            reasons = ", ".join(f"{reason} {n}" for reason, n in r[key]["reasons"].items()) or "–"
            acquired.append((f"{name}: {what}", percent(r[key]), f"{r[key]['trials']:,}", reasons))
        for limit, found in r["within_ms"].items():
            errors = percent(found["false_rejection"]), percent(found["false_acceptance"]), percent(found["late"])
            within.append((f"{name}, {limit} ms", *errors, f"{found['false_rejection']['trials']:,}",
                           f"{found['false_acceptance']['trials']:,}"))  # fmt: skip
    head = ("within", "FRR", "FAR", "photos too late", "genuine claims", "impostor claims")
    note = (
        "From the file to the decision on one core: decode, detect, check, align, verify, at the shipped threshold. "
        "Every failure on the way is a rejection: a person who could not be enrolled, a photo without a usable face, a "
        "decision that comes too late."
    )
    tables = [
        Table("Failures to enrol and to acquire", ("", "rate", "trials", "reasons"), acquired),
        Table("The whole pipeline against the clock", head, within, note),
        _times_table(results),
    ]
    return Section("Raw photographs", "Whole photographs, as they were taken, through the whole pipeline.", tables, [])


def _times_table(results: Results) -> Table:
    rows = [
        (f"{name}: {stage}", *(f"{t[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms")), f"{t['runs']:,}")
        for name, r in results.items()
        for stage, t in r["times"].items()
    ]
    return Table("Time of each stage", ("stage", "p50 ms", "p90 ms", "p99 ms", "photos"), rows)
