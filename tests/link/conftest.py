"""Fixtures of the link: bundles of two releases of one person, and devices with real SSH servers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hosts
import numpy as np
import pytest
from link_support import Fleet, Toolkit

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of flushes to a disk take minutes and show nothing more."""
    folder = Path(tempfile.mkdtemp(prefix="hyperverify-test-", dir=MEMORY if MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tmp_path(memory: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=memory))


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory, detector_bytes: bytes) -> tuple[Path, Path]:
    """anna.hvb twice: the verifiers of two made-up templates."""
    from export.bundle import BundleContent, write_bundle
    from models.generator import Generator

    h, paths = Generator(), []
    points = {name: vars(point) for name, point in h.info.points_for(1)[1].items()}
    for seed in (7, 8):
        template = np.random.default_rng(seed).standard_normal((1, h.template_dim)).astype(np.float32)
        theta = h.weights(template / np.linalg.norm(template))[0]
        content = BundleContent(
            "anna", h.info.spec, theta, {"version": h.info.version}, 1, points, 1, detector_bytes, {}
        )
        path = tmp_path_factory.mktemp(f"release{seed}") / "anna.hvb"
        write_bundle(content, path, replace=False)
        paths.append(path)
    return paths[0], paths[1]


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest, memory: Path) -> Iterator[hosts.Network]:
    if reason := hosts.why_not():
        pytest.skip(reason)
    made = hosts.Network(Path(tempfile.mkdtemp(dir=memory)), getattr(request.module, "HOSTS", 1),
                         getattr(request.module, "BLANK", False))  # fmt: skip
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def fleet(network: hosts.Network, toolkit: Toolkit) -> Fleet:
    """Every device empty, then provisioned."""
    for host in network.hosts:
        shutil.rmtree(host.root)
        host.root.mkdir()
        host.fault_file.unlink(missing_ok=True)

    def run(*arguments: object, **environment: str) -> Any:
        return toolkit(*arguments, **{"HYPERVERIFY_SSH": network.ssh} | environment)

    assert run("keys", "new").code == 0
    done = run("devices", "provision", *(host.name for host in network.hosts))
    assert done.code == 0, done.err
    return Fleet(network, run)
