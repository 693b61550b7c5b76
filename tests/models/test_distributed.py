"""Two processes under torchrun, with gloo on this machine, against one process with the joint batch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_facemap import rec, some_faces

from models.distributed import Group
from models.facestream import Face
from models.generator import Generator
from tests.models.test_rounding import as_int8
from toolkit.errors import UsageError

ROOT = Path(__file__).parents[2]

RUN = textwrap.dedent("""
    import os, shutil, signal, sys, warnings
    from pathlib import Path
    warnings.simplefilter("ignore")
    import torch, torch.distributed as dist
    from test_training import config, world
    import models.training as training
    from models.distributed import Group, joined_processes
    from models.schedule import Schedule

    average = Group.average_gradients
    has_compiler = bool(shutil.which("g++") or shutil.which("clang++"))

    def watched(self, parameters):
        average(self, parameters)
        gradients.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))

    def trainer(folder, report, **changes):
        settings = {"shared_epochs": 0.5} | changes
        compiled = has_compiler and group.size > 1 and not changes.get("personal_steps")
        return training.Trainer(config(**settings), world(96, 2, 1), world(8, 4, 2), folder, report,
                                compiled, group)

    def losses(into):
        return lambda stage, step, steps, values: into.append(values) if steps else None

    def state(run):
        return {name: value.clone() for name, value in run.averaged.state_dict().items()}

    torch.set_num_threads(1)
    Group.average_gradients = watched
    training.augment = lambda pixels, noise, share: pixels  # each process draws changes of its own
    training.Trainer._noisy = lambda self, templates, noise: templates
    out = Path(sys.argv[1])
    ALIKE = {"cohort_targets": True, "bank": 128, "cohort": Schedule(((0.0, 5.0),)), "branches": 2}
    found = {}
    with joined_processes() as group:
        for kind, epochs, steps in (("head", 0.5, 0), ("full", 0.0, 1)):
            shown, gradients = [], []
            settings = {"shared_epochs": epochs, "personal_steps": steps} | (ALIKE if epochs else {})
            run = trainer(out / kind, losses(shown), generator=kind, **settings)
            run.run(resume=False)
            found[kind] = {"losses": shown, "gradients": gradients[0], "state": state(run)}
        def interrupt(stage, step, *rest):
            os.kill(os.getpid(), signal.SIGINT)
        run = trainer(out / "resumed", interrupt if group.first else losses([]), **ALIKE)
        try:
            run.run(resume=True)
            raise SystemExit("nobody stopped")
        except training.Interrupted:
            if group.size > 1:
                dist.barrier()
        run = trainer(out / "resumed", losses([]), **ALIKE)
        run.run(resume=True)
        found["resumed"] = state(run)
        if group.first:
            found["processes"] = group.size
            torch.save(found, out / "found.pt")
""")


def environment() -> dict[str, str]:
    paths = f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'models'}"
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def torchrun(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=600)


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(RUN)
    alone = subprocess.run(
        [sys.executable, tmp_path / "run.py", tmp_path / "one"], capture_output=True, text=True, env=environment()
    )
    assert alone.returncode == 0, alone.stderr
    done = torchrun(tmp_path / "run.py", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name / "found.pt", weights_only=True) for name in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    for kind in ("head", "full"):
        assert one[kind]["losses"]
        for a, b in zip(one[kind]["losses"], two[kind]["losses"], strict=True):
            assert b == pytest.approx(a, rel=1e-4, abs=1e-6), "the loss sees all pairs of the joint batch"
        a, b = one[kind]["gradients"], two[kind]["gradients"]
        assert (a - b).norm() < 1e-3 * a.norm(), kind
    for name, value in one["head"]["state"].items():
        if "running" in name:
            torch.testing.assert_close(two["head"]["state"][name], value, rtol=0.02, atol=1e-3, msg=name)
    for name, value in two["head"]["state"].items():
        torch.testing.assert_close(two["resumed"][name], value, msg=f"resumed {name}")
    assert (tmp_path / "two" / "head" / "checkpoint.pt").is_file()


def test_settings_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(UsageError, match="batch cannot be shared by 3 processes"):
        Group(1, 3).check(batch=128)


def test_train_under_torchrun(toolkit: Callable[..., Any], tmp_path: Path) -> None:
    """The command line in two processes: one result, one report of it."""
    rec(tmp_path / "x.rec", [Face(f.image, str(i // 4), "") for i, f in enumerate(some_faces(48))])
    (tmp_path / "c.toml").write_text(
        'backbone = "dlib"\nfaces = ["x.rec"]\nheld_out_share = 0.4\nbatch = 16\nbank = 8\nshared_epochs = 1\n'
        "branches = 2\n"
        "clusters = 2\nverifier = { input_px = 32, stem = 8, blocks = [[12, 2], [16, 2]], features = 16, half = 0 }\n"
    )
    words = ("train", "--config", tmp_path / "c.toml", "--data", tmp_path, "--out", tmp_path / "run", "--threads", 1)
    done = torchrun("-m", "toolkit", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("held-out EER") == 1
    h = Generator(tmp_path / "run" / "h.onnx")
    theta = h.weights(np.eye(h.template_dim, dtype=np.float32)[:1])[0]
    np.testing.assert_allclose(as_int8(theta, h.info.spec), theta, rtol=1e-5, atol=1e-7, err_msg="the trunk is rounded")
