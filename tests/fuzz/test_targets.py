"""The fuzzer's targets hold for their seeds and for bytes changed in them; `make fuzz` looks much longer."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from targets import TARGETS, Bench, WroteOutside, open_bench, seeds

MUTANTS = 150


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with open_bench() as made:
        yield made


@pytest.mark.parametrize("name", TARGETS)
def test_changed_bytes_are_refused_and_nothing_else(name: str, bench: Bench) -> None:
    """A finding is what a target raises: any error but our own, or WroteOutside from the watch, which must have run."""
    draw = random.Random(name)
    for seed in seeds(bench)[name]:
        runs = bench.watched_runs
        TARGETS[name](bench, seed)
        assert bench.watched_runs > runs, "a seed that the target gives up on before its parser tests nothing"
        for _ in range(MUTANTS // len(seeds(bench)[name])):
            data = bytearray(seed)
            for _ in range(draw.randint(1, 4)):
                at = draw.randrange(len(data))
                data[at : at + draw.randint(0, 3)] = draw.choice([b"", b"\0", b"..", b"/", b"9" * 9, b'"', b"[" * 99])
            TARGETS[name](bench, bytes(data))


def test_the_watch_sees_what_is_written_outside(bench: Bench) -> None:
    with pytest.raises(WroteOutside), bench.watched():
        (bench.folder.parent / "outside").write_bytes(b"")
