"""Instructions a face, network by network: `python -m benchmarks.peer_instructions BUNDLE OUT.json`.

A proxy for energy, which on one processor goes with the instructions executed: unlike a time it does not depend on what
else the machine does. Each network judges one crop on one thread, in a process of its own under QEMU
(`benchmarks.instructions` has how it is counted and what that needs); YuNet searches a picture instead. What is not
here, or does not run under QEMU, is left out and named.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.facts import device_facts
from benchmarks.instructions import count
from benchmarks.peer_latency import NETWORKS, form_names, open_peer
from export.manifest import open_bundle
from toolkit.atomic import write_atomically
from toolkit.errors import MissingError
from toolkit.output import note

WARM_UP, FACES = 2, 3
SEED = 0


def inside(bundle: Path, name: str) -> None:
    """What is counted: each judgement of one network, between two marks."""
    crop = np.random.default_rng(SEED).integers(0, 256, (112, 112, 3), np.uint8)
    with ExitStack() as stack:
        peer = open_peer(name, open_bundle(bundle), stack)
        for _ in range(WARM_UP):
            peer.run(crop)
        os.getppid()
        for _ in range(FACES):
            peer.run(crop)
            os.getppid()


def measured(bundle: Path, name: str) -> dict[str, Any]:
    """A network's size and instructions a face. Raises MissingError without its file, or where QEMU does not run it."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        peer = open_peer(name, open_bundle(bundle), stack)
        itself = [sys.executable, "-m", "benchmarks.peer_instructions", "--inside", str(bundle), name]
        marks = count(itself, Path(folder))
        return {"name": name, "params": peer.count.params, "macs": peer.count.macs, "faces_at_once": peer.faces,
                "instructions": per_face(marks, peer.faces)}  # fmt: skip


def per_face(marks: list[int], faces_at_once: int) -> int:
    """Median instructions between neighbours of FACES + 1 marks, shared by the faces that were judged at once."""
    assert len(marks) == FACES + 1, "one mark before the faces, and one after each"
    return int(np.median(np.diff(marks))) // faces_at_once


def main(bundle: Path, out: Path) -> None:
    networks, missing = [], {}
    for name in (*form_names(), *NETWORKS):
        try:
            networks.append(measured(bundle, name))
            note(f"{name}: {networks[-1]['instructions']:,}")
        except MissingError as error:
            missing[name] = str(error)
            note(f"{name}: {error}")
    if not networks:
        raise MissingError("no network could be counted", got=missing)
    result = {
        "schema_version": 1,
        "kind": "instructions",
        "command": f"python -m benchmarks.peer_instructions {bundle.name} {out.name}",
        "seed": SEED,
        "networks": networks,
        "missing": missing,
        "device": device_facts(),
    }
    write_atomically(out, (json.dumps(result, indent=2) + "\n").encode(), mode=0o644)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        inside(Path(sys.argv[2]), sys.argv[3])
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
