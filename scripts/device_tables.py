"""The tables of docs/device.md, each from the result file of its name."""

from __future__ import annotations

from typing import Any

from cells import count, table

CHALLENGED = {
    "print_turned": "turned prints",
    "cut_out_turned": "turned cut-outs",
    "screen_turned": "turned screens",
    "replay": "replayed turns",
}


def door(results: dict[str, Any]) -> str:
    d = results["door"]
    cpu, lively, size = d["cpu_per_frame"], d["liveness"], d["install_bytes"]
    strict = d["sequential"]["fmr1e-3"]["wait_ms"]
    late = strict["everybody"]["p95"]
    waits = (
        f"{'never' if late is None else f'{late:.0f} ms'} over everybody, {strict['accepted']['p95']:.0f} ms over "
        f"those accepted; within 500 ms {count(strict['within_500_ms'])}"
    )
    visits = {
        side: "; ".join(f"{point} {count(r[side]['accepted'])}" for point, r in d["sequential"].items())
        for side in ("genuine", "impostor")
    }
    share = cpu["verifier_share_of_ours"]
    passive, challenge = lively["passive"], lively["challenge"]
    rows = [
        ["processor time a frame, one thread, against YuNet and SFace on every frame", "≤ 0.6×",
         f"{cpu['ratio']:.2f}× ({cpu['ours_ms']:.1f} ms against {cpu['every_frame_ms']:.1f} ms)"],
        ["the verifier's share of that", "≤ 5 %",
         f"{cpu['verifier_share_of_every_frame']:.1%} of YuNet and SFace; {share:.1%} of our own, smaller, total"],
        ["wait of an enrolled person from the first usable frame, p95, at fmr1e-3", "≤ 500 ms", waits],
        ["enrolled people's visits accepted, new photos", "", visits["genuine"]],
        ["strangers' visits accepted", "none at fmr1e-4", visits["impostor"]],
        ["what `pip install 'hyperverify[litert]'` brings", "≤ 350 MB",
         f"{size['litert'] / 1e6:.0f} MB; `[onnxruntime]` {size['onnxruntime'] / 1e6:.0f} MB"],
        ["passive cue: people refused (BPCER)", "", count(passive["bpcer"])],
        ["passive cue: attacks missed (APCER)", "",
         "; ".join(f"{name} {count(passive[f'apcer_{key}'])}"
                   for name, key in (("screens", "screen"), ("prints", "print"), ("cut-outs", "cut_out")))],
        [f"challenge of {challenge['steps']} turns: people refused (BPCER)", "", count(challenge["bpcer"])],
        ["challenge: attacks passed (APCER)", "",
         "; ".join(f"{name} {count(challenge[f'apcer_{key}'])}"
                   for key, name in CHALLENGED.items() if f"apcer_{key}" in challenge)],
    ]  # fmt: skip
    where = f"{d['people']} people, {d['device']['cores']} cores of {d['device']['processor']}"
    return f"{table(['', 'target', 'measured'], rows)}\n\nGenerator {d['generator']['version']}, {where}."


def visitors(results: dict[str, Any]) -> str:
    v = results["visitors"]
    rows = []
    for point, r in v["sequential"].items():
        genuine, impostor = r["genuine"], r["impostor"]
        strangers = f"{_rare(impostor['accepted'])}; at {impostor['doors_with_an_accept']} of {impostor['doors']} doors"
        waits = "; ".join(_waits(genuine["wait_ms"][side]) for side in ("everybody", "accepted"))
        rows.append([point, strangers, count(genuine["accepted"]), count(genuine["within_500_ms"]), waits])
    fewest = v["sequential"]["fmr1e-4"]["impostor"]
    head = ["", "strangers' visits accepted", "owners' visits accepted", "within 500 ms of the first usable frame",
            "their wait, p50 / p90 / p95 in ms: everybody; those accepted"]  # fmt: skip
    usual = v["sequential"]["fmr1e-3"]["genuine"]["by_photos"]
    photos = "; ".join(f"{n} photo{'s' if n != '1' else ''} {count(rate)}" for n, rate in usual.items())
    kin = fewest["relatives_accepted"]
    return (
        f"{table(head, rows)}\n\n{v['visits']} visits of {v['visit_s']} s before {fewest['doors']} doors. Without one "
        f"accept in {fewest['trials']:,} trials, the rate would be\nbelow {fewest['rule_of_three']:.1e} with 95 % "
        f"confidence (rule of three, were all trials independent). Owners accepted at fmr1e-3 by photos\nenrolled: "
        f"{photos}. At fmr1e-4, {kin['errors']} of the {fewest['accepted']['errors']} strangers accepted are of the "
        f"owner's family ({kin['trials']:,} such trials). Generator {v['generator']['version']}."
    )


def _rare(rate: dict[str, float]) -> str:
    return f"{rate['errors']:,} of {rate['trials']:,}, {rate['rate']:.1e} [{rate['low']:.1e}, {rate['high']:.1e}]"


def _waits(wait_ms: dict[str, float | None]) -> str:
    return " / ".join("never" if ms is None else f"{ms:.0f}" for ms in wait_ms.values())


def instructions(results: dict[str, Any]) -> str:
    r = results["instructions"]
    names = ("detection or following", "alignment and checks", "the verifier", "YuNet, whole picture", "SFace")
    rows = [[name, f"{number / 1e6:.2f}"] for name, number in zip(names, r["stages"].values(), strict=True)]
    rows.append(["ours, against YuNet and SFace on every frame", f"{r['ratio']:.2f}×"])
    shares = f"{r['verifier_share_of_every_frame']:.1%}; of our own, smaller, total {r['verifier_share_of_ours']:.1%}"
    return table(["", "million instructions a frame"], [*rows, ["the verifier's share of those", shares]])


def soak(results: dict[str, Any]) -> str:
    r, faults = results["soak"]["replay"], results["soak"]["camera_faults"]
    memory, rise, files = r["resident_mb"], r["resident_slope"], r["open_files"]
    rows = [
        ["video replayed", "8 hours",
         f"{_length(r)}, {r['frames']:,} frames, {r['decisions']:,} decisions, {r['reloads']} reloads"],
        ["resident memory, most, with preview, metrics and reloads", "≤ 120 MB",
         f"{memory['most']:.0f} MB; it begins at {memory['first']:.0f}"],
        ["growth of memory, MB an hour of video", "none", _growth(rise)],
        ["open files", "constant", f"{files['first']} at first, {files['last']} at last, {files['most']} at most"],
        ["longest silence towards the watchdog", f"< {r['watchdog']['limit_s']:.0f} s",
         f"{r['watchdog']['longest_silence_s']:.0f} s; a third of the limit is the plan"],
        ["camera faults at random", "every one told",
         f"{faults['injected']:,} injected, {faults['told']:,} attempts to reopen told, "
         f"{faults['threads_left']} threads and {faults['files_left']} files left"],
    ]  # fmt: skip
    packages = ", ".join(f"{name} {version}" for name, version in results["soak"]["device"]["packages"].items())
    shown = f"{table(['', 'target', 'measured'], rows)}\n\n{_pace(r)}\nAn environment with {packages}."
    if r["video_hours"] < 7.95:  # the last sample is up to a minute before the end
        shown += "\n\n**Eight hours in one run have not been shown yet.**"
    return shown


def _length(replay: dict[str, Any]) -> str:
    return f"{replay['video_hours']:.1f} hours in {replay['wall_s'] / 60:.0f} minutes"


def _growth(rise: dict[str, float | None]) -> str:
    if rise["mb_per_hour"] is None:
        return "too short to tell"
    return f"{rise['mb_per_hour']:+.2f} [{rise['low']:+.2f}, {rise['high']:+.2f}]"


def _pace(replay: dict[str, Any]) -> str:
    """What was replayed, how fast, and whether the clock ended it before its hours were over."""
    seconds = replay["video_hours"] * 3600
    size = " of {}×{} pixels".format(*replay["size_px"]) if "size_px" in replay else ""
    ended = replay.get("hours_asked", 8) - replay["video_hours"] > 0.05
    return (
        f"Video at {replay['frames'] / seconds:.0f} fps{size}, replayed {seconds / replay['wall_s']:.0f} times "
        f" as fast as it was{'; the clock ended the run before its hours were over' if ended else ''}."
    )
