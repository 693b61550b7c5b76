"""Instructions a frame, stage by stage: `python -m benchmarks.instructions BUNDLE PHOTO OUT.json`.

Times depend on what else the machine does; executed instructions do not. The pipeline runs under QEMU's user emulation
of this same architecture with a plugin that counts (scripts/cross/count.c); between stages the program asks for its
parent's number, a system call that does nothing else, and the plugin writes down how far it has come.

Needs gcc and Debian's qemu-user. Emulated processors have no AVX-512: kernels are those for AVX2 on x86-64.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import scenes
from benchmarks.facts import device_facts
from toolkit.atomic import write_atomically
from toolkit.errors import MissingError

PLUGIN = Path(__file__).parents[1] / "scripts" / "cross" / "count.c"
PLUGIN_VERSIONS = (1, 2, 3, 4, 5)
GETPPID = {"x86_64": 110, "aarch64": 173}
STAGES = ("detect_or_follow", "align_and_check", "verify", "yunet_whole_picture", "sface")
FRAMES, WARM_UP = 10, 2  # one frame in ten is searched as a whole


def inside(bundle: Path, frames_file: Path) -> None:
    """What is counted: each stage of each frame, between two marks."""
    from device.alignment import align
    from device.open import open_pipeline
    from device.quality import assess
    from export.manifest import open_bundle
    from models.backbone import load_backbone

    sface = load_backbone("sface", threads=1)
    with open_pipeline(open_bundle(bundle), "auto", "int8") as pipeline:
        for frame in np.load(frames_file):
            os.getppid()
            tracks = pipeline.tracker.update(frame)
            os.getppid()
            face = tracks[0].face
            crop = align(frame, face.landmarks, pipeline.framing)
            assess(crop, face, pipeline.limits, pipeline.framing)
            os.getppid()
            pipeline.verifier.score(crop)
            os.getppid()
            found = pipeline.detector.detect(frame)
            os.getppid()
            sface.embed(align(frame, found[0].landmarks)[None])
            os.getppid()


def count(command: list[str], folder: Path) -> list[int]:
    """Instructions that a program had executed at every mark. Raises MissingError without QEMU or its plugins."""
    machine, problem = platform.machine(), ""
    environment = os.environ | {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS")}
    for version in PLUGIN_VERSIONS:
        plugin, marks = folder / f"count{version}.so", folder / "marks"
        try:
            flags = ["-O2", "-shared", "-fPIC", f"-DPLUGIN_VERSION={version}"]
            subprocess.run(["gcc", *flags, str(PLUGIN), "-o", str(plugin)], check=True)
            options = ["-cpu", "max", "-plugin", f"{plugin},out={marks},mark={GETPPID[machine]}"]
            done = subprocess.run(
                [f"qemu-{machine}", *options, *command], env=environment, stderr=subprocess.PIPE, text=True
            )
        except (FileNotFoundError, KeyError) as error:
            raise MissingError(
                "instructions cannot be counted here", got=error, do="apt install gcc qemu-user, on x86-64 or aarch64"
            ) from error
        if done.returncode == 0:
            return [int(line) for line in marks.read_text().split()[:-1]]
        problem = done.stderr.strip()[-300:]
        if "plugin" not in problem:
            break
    raise MissingError("QEMU did not run the program", got=problem)


def summary(marks: list[int]) -> dict[str, Any]:
    """Mean instructions of each stage over FRAMES frames; the frames before them warm up."""
    per_frame = np.diff(np.array(marks).reshape(-1, len(STAGES) + 1)).astype(float)[WARM_UP:]
    means = dict(zip(STAGES, per_frame.mean(0).round().astype(int).tolist(), strict=True))
    ours = sum(means[stage] for stage in STAGES[:3])
    theirs = means["yunet_whole_picture"] + means["sface"]
    return {
        "stages": means,
        "ours": ours,
        "every_frame": theirs,
        "ratio": ours / theirs,
        "verifier_share_of_ours": means["verify"] / ours,
        "verifier_share_of_every_frame": means["verify"] / theirs,
        "frames": len(per_frame),
    }


def main(bundle: Path, photo: Path, out: Path) -> None:
    from models.files import find_model
    from models.fold import detector_file

    subject = scenes.portrait(photo, scenes.portrait_detector(detector_file(find_model("yunet"))))
    frames = list(scenes.film(subject, 3.0, 1))[-FRAMES - WARM_UP :]
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder, "frames.npy")
        np.save(film, np.stack(frames))
        itself = [sys.executable, "-m", "benchmarks.instructions", "--inside", str(bundle), str(film)]
        marks = count(itself, Path(folder))
    assert len(marks) == (FRAMES + WARM_UP) * (len(STAGES) + 1), "one mark before, between and after the stages"
    assert all(a <= b for a, b in pairwise(marks))
    result = {"schema_version": 1, **summary(marks), "device": device_facts()}
    write_atomically(out, (json.dumps(result, indent=2) + "\n").encode(), mode=0o644)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        inside(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
