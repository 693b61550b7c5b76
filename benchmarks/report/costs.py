"""What it costs: the verifier beside other systems, and time on a device."""

from __future__ import annotations

from typing import Any

from benchmarks.report.cells import accuracy, fnmr, share
from benchmarks.report.document import Axis, Chart, Section, Series, Table
from benchmarks.report.sections import Results, det_chart, floor_power


def peers_section(results: Results) -> Section:
    rows, scored = [], {}
    for name, r in results.items():
        for system, s in r["systems"].items():
            rows.append((system, accuracy(s), share(s["eer"]), fnmr(s, "fmr1e-3"), f"{s['params']:,}",
                         f"{s['flops'] / 1e6:,.1f}", f"{s['file_bytes'] / 1e3:,.0f}",
                         f"{s['face_ms']:.3f}" if "face_ms" in s else "–"))  # fmt: skip
            scored[f"{name}: {system}" if len(results) > 1 else system] = s
    head = ("", "accuracy", "EER", "FNMR at FMR 1e-3", "parameters", "MFLOPs", "file, KB", "ms a face")
    tables = [Table("Accuracy and cost", head, rows, _peers_note(scored))]
    if all("search" in s for s in scored.values()):  # results of before have none
        tables.append(_search_table(scored))
    text = "A personal verifier beside embedding networks with a cosine: the same pairs, one run."
    return Section("Peers", text, tables, [det_chart(scored)])


def _peers_note(scored: dict[str, dict[str, Any]]) -> str:
    trained = next((s["trained"] for s in scored.values() if "trained" in s), None)
    about = "Milliseconds: the median of one thread, all networks in turn, cropping apart."
    if trained is None:
        return about
    return (
        f"{about} “embedding” has the verifier's size and serves everybody: {trained['epochs']:g} epochs of the "
        f"verifier's {trained['faces']:,} training faces, after {trained.get('start_steps', 0):,} steps of a pooled "
        f"verifier. Its EER on held-out people is {share(trained['validation']['eer'])}."
    )


def _search_table(scored: dict[str, dict[str, Any]]) -> Table:
    """One shown face against N enrolled people."""
    chosen = {label: s for label, s in scored.items() if not label.endswith("both sides")}
    galleries = list(next(iter(chosen.values()))["search"])
    counts = [f"{n}: {unit}" for unit in ("ms", "MB") for n in galleries]
    rows = []
    for label, s in chosen.items():
        found = [s["search"][n] for n in galleries]
        pays = [f"{s[key]:,}" if (key := f"people_from_which_one_search_is_{word}") in s else "–"
                for word in ("cheaper", "faster")]  # fmt: skip
        rows.append((label.removesuffix(", one-sided"), *(f"{f['ms']:,.2f}" for f in found),
                     *(f"{f['bytes'] / 1e6:,.2f}" for f in found), *pays))  # fmt: skip
    note = (
        "N personal verifiers cost N times one; an embedding is made once, and its comparison is not timed: it is a "
        "product of a hundred or two numbers a person. “Cheaper” counts multiply-accumulates, “faster” milliseconds. A "
        "verifier answers 1:1; the error rates above are not those of a search."
    )
    head = ("", *counts, "cheaper from", "faster from")
    return Table("One face against N enrolled people", head, rows, note)


def instructions_section(results: Results) -> Section:
    tables = []
    for name, r in results.items():
        own = min((n["instructions"] for n in r["networks"] if n["name"].startswith("f ")), default=None)
        rows = [
            (n["name"], f"{n['params']:,}", f"{n['macs'] / 1e6:,.2f}", f"{n['instructions'] / 1e6:,.2f}",
             f"{n['instructions'] / n['macs']:.2f}", f"{n['instructions'] / own:,.1f}×" if own else "–")
            for n in r["networks"]
        ]  # fmt: skip
        head = ("", "parameters", "million MACs", "million instructions", "instructions a MAC", "against f at its best")
        missing = f" Not here: {', '.join(r['missing'])}." if r["missing"] else ""
        note = f"One thread, {r['device']['architecture']} without AVX-512, counted under QEMU.{missing}"
        tables.append(Table(f"Instructions a face: {name}", head, rows, note))
    text = "A proxy for energy: on one processor it goes with the instructions executed, whatever else runs."
    return Section("Instructions", text, tables, [])


def bench_section(results: Results) -> Section:
    tables, charts = [], []
    for name, r in results.items():
        rows = [(stage, f"{t['p50_ms']:.3f}", f"{t['p90_ms']:.3f}", f"{t['p99_ms']:.3f}", f"{t['runs']:,}")
                for stage, t in r["latency"].items()]  # fmt: skip
        size = f"{r['params']:,} parameters, {r['flops'] / 1e6:.2f} MFLOPs"
        device = f"{r['device']['processor']}, {r['threads']} thread(s), one run; {size}"
        tables.append(Table(f"Latency: {name}", ("stage", "p50 ms", "p90 ms", "p99 ms", "runs"), rows, device))
        if "cold_start_ms" in r:
            tables.append(_process_table(name, r))
        if "sustained" in r:
            charts.append(_sustained_chart(name, r["sustained"]))
        stages = list(r["latency"])[::-1]
        times = [r["latency"][stage] for stage in stages]
        values = [v for t in times for v in (t["p50_ms"], t["p99_ms"])]
        x = Axis("ms; the bar ends at p99", 10 ** floor_power(min(values)), 10 ** (floor_power(max(values)) + 1), True)
        low = [t["p50_ms"] for t in times]
        series = [Series("p50", low, [float(i) for i in range(len(stages))], "dots", low, [t["p99_ms"] for t in times])]
        says = " ".join(f"{stage}: {t['p50_ms']:.3g} ms." for stage, t in zip(stages, times, strict=True))
        axis = Axis("", -0.6, len(stages) - 0.4, names=tuple(stages))
        charts.append(Chart(f"Latency: {name}", x, axis, series, says))
    return Section("Latency", "Every stage, warm-up apart, no sample left out.", tables, charts)


def _process_table(name: str, r: dict[str, Any]) -> Table:
    rows = [(runtime, f"{ms:.0f}", f"{r['peak_memory_bytes'][runtime] / 1e6:.0f}")
            for runtime, ms in r["cold_start_ms"].items()]  # fmt: skip
    note = "A fresh process, from its first import to its first score; most memory that it held."
    return Table(f"Cold start: {name}", ("runtime", "ms", "peak MB"), rows, note)


def _sustained_chart(name: str, sustained: dict[str, Any]) -> Chart:
    windows = sustained["windows"]
    ends = [sustained["seconds"] * (i + 1) / len(windows) for i in range(len(windows))]
    series = [Series(key.removesuffix("_ms"), ends, [w[key] for w in windows]) for key in ("p50_ms", "p99_ms")]
    says = (
        f"{sustained['form']}, frame to score, {sustained['seconds']:g} s without a pause: the last window's median "
        f"is {sustained['slowdown']:.3f} times the first one's."
    )
    most = max(w["p99_ms"] for w in windows)
    return Chart(f"Sustained: {name}", Axis("s", 0, ends[-1]), Axis("ms", 0, 1.1 * most), series, says)
