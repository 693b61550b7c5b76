"""What `toolkit eval` prints for people: one table a protocol."""

from __future__ import annotations

from typing import Any

from toolkit.output import table

POINTS = ("fmr1e-2", "fmr1e-3", "fmr1e-4")


def percent(rate: dict[str, Any]) -> str:
    """Three digits that count, however small the rate: 0.0123%."""
    share, low, high = (f"{100 * rate[name]:.3g}%" for name in ("rate", "low", "high"))
    return f"{share} [{low}, {high}]"


def _head(result: dict[str, Any]) -> str:
    return f"{result['precision']} files in {result['runtime']}, enrolment {result['enrolment']}, {result['faces']}"


def pairs_table(result: dict[str, Any]) -> str:
    rows = []
    for side in ("one_sided", "both_sides"):
        r = result[side]
        accuracy = f"{r['accuracy']:.2%} ± {r['standard_error']:.2%}" if "accuracy" in r else "–"
        fnmr = [percent(r["at_fmr"][n]["fnmr"]) if n in r["at_fmr"] else "–" for n in POINTS[:2]]
        rows.append((side, accuracy, f"{r['eer']:.2%}", *fnmr))
    counts = result["one_sided"]
    head = f"{_head(result)}, {counts['genuine_pairs']} genuine and {counts['impostor_pairs']} impostor pairs"
    return head + "\n" + table(rows, ("", "accuracy", "EER", "FNMR at FMR 1e-2", "FNMR at FMR 1e-3"))


def flips_table(result: dict[str, Any]) -> str:
    rows = [
        (name, f"{r['threshold']:+.4f}", percent(r["flips"]), str(r["genuine_lost"]), str(r["genuine_won"]),
         str(r["impostors_admitted"]), str(r["impostors_refused"]))
        for name, r in result["at"].items()
    ]  # fmt: skip
    counts = result["comparisons"]
    head = (
        f"int8 against fp32 in {result['runtime']}, {result['faces']}: {counts['genuine']} genuine and "
        f"{counts['impostor']} impostor comparisons; scores differ by {result['mean_error']:.4f} on average"
    )
    names = ("point", "threshold", "flips", "genuine lost", "won", "impostors admitted", "refused")
    return head + "\n" + table(rows, names)


def peers_table(result: dict[str, Any]) -> str:
    rows = []
    for name, r in result["systems"].items():
        fnmr = r["at_fmr"].get("fmr1e-3")
        rows.append((name, f"{r['accuracy']:.2%}" if "accuracy" in r else "–", f"{r['eer']:.2%}",
                     percent(fnmr["fnmr"]) if fnmr else "–", f"{r['params']:,}", f"{r['flops'] / 1e6:,.1f}",
                     f"{r['file_bytes'] / 1e3:,.0f}", f"{r['face_ms']:.3f}",
                     str(r.get("people_from_which_one_search_is_faster", "")))
        )  # fmt: skip
    head = ("", "accuracy", "EER", "FNMR at FMR 1e-3", "parameters", "MFLOPs", "KB", "ms", "search is faster from")
    return f"{_head(result)}, {result['pairs']}\n" + table(rows, head)


def scores_table(result: dict[str, Any]) -> str:
    rows = [(name, f"{at['threshold']:.5g}", percent(at["fnmr"])) for name, at in result["at_fmr"].items()]
    head = (
        f"{result['genuine_pairs']} genuine and {result['impostor_pairs']} impostor scores: EER {result['eer']:.3%}, "
        f"AUC {result['auc']:.6f}, d′ {result['d_prime']:.3f}, min Cllr {result['min_cllr']:.4f} bits"
    )
    return head + "\n" + table(rows, ("at", "threshold", "FNMR")) if rows else head


def household_table(result: dict[str, Any]) -> str:
    rows = []
    for photos, r in result["enrolment_photos"].items():
        for name, at in r["at_fmr"].items():
            shipped = r["at_shipped_threshold"].get(name)
            rows.append((f"{photos}, one probe", name, percent(at["fnmr"]), str(r["genuine_pairs"]),
                         str(r["impostor_pairs"]), percent(shipped["fmr"]) if shipped else "–"))  # fmt: skip
        fused = r.get("fused", {})
        for method in ("likelihood_ratio", "mean"):
            f = fused.get(method, {"at_fmr": {}})
            label = f"{photos}, {fused.get('probes')} by {method.replace('_', ' ')}"
            for name, at in f["at_fmr"].items():
                shipped = f["at_shipped_threshold"].get(name)
                rows.append((label, name, percent(at["fnmr"]), str(f["genuine_trials"]), str(f["impostor_trials"]),
                             percent(shipped["fmr"]) if shipped else "–"))  # fmt: skip
    head = ("photos, probes", "at", "FNMR", "genuine", "impostor", "FMR at the shipped threshold")
    return _head(result) + "\n" + table(rows, head)


def kin_table(result: dict[str, Any]) -> str:
    rows = []
    for photos, r in result["enrolment_photos"].items():
        for origin in ("stranger_fmr", "shipped_threshold"):
            for name, at in r[f"at_{origin}"].items():
                ratio = at["relatives_over_strangers"]
                rows.append((photos, f"{name}, {origin.split('_')[0]}", percent(at["fmr_relatives"]),
                             percent(at["fmr_strangers"]), f"{ratio:.1f}" if ratio is not None else "–",
                             percent(at["fnmr"]) if "fnmr" in at else "–"))  # fmt: skip
    counts = "; ".join(
        f"{photos} photos: {r['people']} people of {r['families']} families, {r['relatives_pairs']} relative, "
        f"{r['strangers_pairs']} stranger and {r['genuine_pairs']} genuine pairs"
        for photos, r in result["enrolment_photos"].items()
    )
    head = ("photos", "threshold", "FMR of relatives", "FMR of strangers", "times", "FNMR")
    return f"{_head(result)}\n{counts}\n" + table(rows, head)


def groups_table(result: dict[str, Any]) -> str:
    lines = [f"{_head(result)}, {result['people']} people enrolled from {result['enrolment_photos']} photos, "
             f"{result['negatives']} strangers of {result['negatives_from']}"]  # fmt: skip
    for origin in ("at_fmr", "at_shipped_threshold"):
        for name, at in result[origin].items():
            overall = at["fmr"]["rate"]
            rows = [("everybody", percent(at["fmr"]), "1.0", str(at["fmr"]["trials"]))]
            for kind, groups in at["by"].items():
                for group, rate in groups.items():
                    times = f"{rate['rate'] / overall:.1f}" if overall else "–"
                    rows.append((f"{kind} {group}", percent(rate), times, str(rate["trials"])))
            where = "threshold of" if origin == "at_fmr" else "shipped threshold of"
            lines.append(f"\n{where} {name}: {at['threshold']:.4f}")
            lines.append(table(rows, ("stranger", "FMR", "times overall", "pairs")))
    return "\n".join(lines)
