"""`toolkit run`: watch a camera, a video or a folder, and decide."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import Bundle, Json, Point, Precision, RuntimeName, Threads
from toolkit.errors import EXIT_ACCEPTED, EXIT_REJECTED, FaceError
from toolkit.output import emit_line, note

if TYPE_CHECKING:
    from device.pipeline import Observation, Pipeline
    from device.session import Decision
    from device.sources import Frame, Source


SourceName = Annotated[str, typer.Option("--source", "-s", help="Camera index, video file or folder of photos.")]
Frames = Annotated[int, typer.Option(min=0, max=100, help="Usable frames a decision; 0: 5, or 1 for photos.")]
Once = Annotated[bool, typer.Option("--once", help="Stop at the first decision; it is the exit code.")]
Timeout = Annotated[float, typer.Option(min=0, help="Give up after so many seconds without a decision; 0: never.")]


def run(
    bundle: Bundle,
    source: SourceName = "0",
    frames: Frames = 0,
    once: Once = False,
    timeout: Timeout = 0.0,
    runtime: RuntimeName = "auto",
    precision: Precision = "int8",
    operating_point: Point = "fmr1e-3",
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Decide over frames: detect, align, verify, and fuse the scores of several frames into one decision.

    With --json, one JSON line a decision. With --once, exit code 0 is accepted, 10 rejected, 4 no decision. For files,
    --timeout counts the video's own time.
    """
    from device.open import open_pipeline
    from device.session import Session
    from device.sources import open_source
    from export.manifest import open_bundle

    opened = open_bundle(bundle)
    threshold = opened.threshold(operating_point)
    with open_pipeline(opened, runtime, precision, threads) as pipeline, open_source(source) as frames_in:
        session = Session(threshold, frames or (1 if frames_in.single else 5))
        watch = _watch(pipeline, frames_in, session, timeout, live=not json)
        count = accepted = 0
        for frame, decision in watch:
            count, accepted = count + 1, accepted + decision.accepted
            _tell(opened.name, frame, decision, json)
            if once:
                raise typer.Exit(EXIT_ACCEPTED if decision.accepted else EXIT_REJECTED)
    if once or not count:
        raise FaceError(
            "no_decision", f"{source} ended without a decision", do="check the picture with `toolkit verify`"
        )
    note(f"{source}: {count} decisions, {accepted} accepted")


def _watch(
    pipeline: Pipeline, source: Source, session: Any, timeout_s: float, live: bool
) -> Iterator[tuple[Frame, Decision]]:
    """Frames that led to a decision. Raises FaceError when the timeout passes without one."""
    from device.quality import ADVICE
    from device.sources import Outage

    since, reason = None, "no_face"
    for frame in source.frames():
        since = frame.time_s if since is None else since
        if isinstance(frame, Outage):
            continue
        seen = pipeline.observe(frame.rgb)
        reason = seen.reason or reason
        if live:
            _live_line(seen, frame, session.threshold)
        if decision := session.add(seen, frame.time_s):
            since = frame.time_s
            yield frame, decision
        elif timeout_s and not source.single and frame.time_s - since >= timeout_s:
            raise FaceError("timeout", f"no decision within {timeout_s:g} s", do=ADVICE[reason])


def _live_line(seen: Observation, frame: Frame, threshold: float) -> None:
    """Rewrite one line on a terminal; say nothing elsewhere."""
    if not sys.stderr.isatty():
        return
    state = seen.reason or f"score {seen.score:+.3f} (threshold {threshold:+.3f})"
    total = sum(seen.times_ms.values())
    print(f"\r\033[K{frame.time_s:7.2f} s  {state}  {total:.1f} ms", end="", file=sys.stderr, flush=True)


def _tell(name: str, frame: Frame, decision: Decision, as_json: bool) -> None:
    if as_json:
        where = {"file": frame.name} if frame.name else {}
        emit_line(
            {
                "time_s": round(decision.time_s, 3),
                **where,
                "name": name,
                "decision": "accepted" if decision.accepted else "rejected",
                "score": round(decision.score, 6),
                "threshold": decision.threshold,
                "frames": decision.frames,
            }
        )
        return
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    word = "accepted" if decision.accepted else "rejected"
    where_text = frame.name or f"{decision.time_s:.2f} s"
    print(f"{where_text}  {name}: {word}  score {decision.score:+.3f} over {decision.frames} frames", flush=True)
