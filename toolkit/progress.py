"""Progress bars on stderr, with the time left. Silent when stderr is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, showing how far along they are. Needs no terminal and no rich to work."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, label, total=total, console=Console(stderr=True), transient=True)


class StepLine:
    """One line on stderr about a long run, with the time left: rewritten on a terminal, twice a minute in a log."""

    def __init__(self) -> None:
        self._stage, self._first_step = "", 0
        self._first_s = self._shown_s = 0.0

    def __call__(self, stage: str, step: int, steps: int, values: dict[str, float]) -> None:
        """`steps` of 0 marks an event (a validation), which always gets a line of its own."""
        now, live = time.monotonic(), sys.stderr.isatty()
        text = " ".join(f"{key} {value:.4f}" for key, value in values.items())
        if not steps:
            print(f"{chr(10) if live else ''}{stage} at step {step}: {text}", file=sys.stderr, flush=True)
            return
        if stage != self._stage:
            self._stage, self._first_s, self._first_step = stage, now, step
        if now - self._shown_s < (0.5 if live else 30):
            return
        self._shown_s = now
        done = step - self._first_step
        left_s = (now - self._first_s) / done * (steps - step) if done else 0.0
        line = f"{stage} {step}/{steps}, {left_s / 60:.0f} min left: {text}"
        print(f"\r\033[K{line}" if live else line, end="" if live else "\n", file=sys.stderr, flush=True)
