"""`toolkit run`: watch a camera, a video or a folder, and decide; for a minute at a desk or for a year at a door."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import Json
from toolkit.errors import EXIT_ACCEPTED, EXIT_REJECTED, FaceError, UsageError
from toolkit.output import emit, emit_line, note

if TYPE_CHECKING:
    from device.decision import Decision
    from device.settings import Settings
    from device.sources import Source
    from device.watch import Equipment, Moment
    from export.manifest import Bundle

Bundles = Annotated[list[Path] | None, typer.Argument(help="Bundles, or a folder of them.", show_default=False)]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="A device's configuration; options given here go before it.")
]
SourceName = Annotated[
    str | None,
    typer.Option("--source", "-s", help="0, /dev/video0, picamera, rtsp://…, a video file or a folder of photos."),
]
Once = Annotated[bool, typer.Option("--once", help="Stop once somebody is accepted or rejected; that is the exit code.")]
Timeout = Annotated[float, typer.Option(min=0, help="Give up after so many seconds without a decision; 0: never.")]
PreviewKind = Annotated[str | None, typer.Option("--preview", help="web, window or off.")]
RuntimeName = Annotated[str | None, typer.Option("--runtime", help="onnxruntime, litert, tflite-runtime, c or auto.")]
PrecisionName = Annotated[str | None, typer.Option("--precision", help="int8 or fp32.")]
Threads = Annotated[int | None, typer.Option(min=1, max=64, help="CPU threads.")]
Point = Annotated[
    str | None,
    typer.Option("--operating-point", help="fmr1e-2, fmr1e-3 or fmr1e-4: the share of strangers' visits that pass."),
]
Check = Annotated[bool, typer.Option("--check", help="Check configuration and bundles, and run nothing.")]

FALSE_ACCEPT = {"fmr1e-2": 1e-2, "fmr1e-3": 1e-3, "fmr1e-4": 1e-4}


def run(
    bundles: Bundles = None,
    config: Config = None,
    source: SourceName = None,
    once: Once = False,
    timeout: Timeout = 0.0,
    preview: PreviewKind = None,
    runtime: RuntimeName = None,
    precision: PrecisionName = None,
    operating_point: Point = None,
    threads: Threads = None,
    check: Check = False,
    json: Json = False,
) -> None:
    """Decide over frames: follow each face, check it, score it, and gather evidence until it is enough.

    A visit ends accepted, rejected, or unknown where its evidence suffices for neither, as a stranger's short visit may.
    With --json, one JSON line a decision. With --once, exit code 0 is accepted, 10 rejected, and 4 that there was no
    decision: unknown is none, and the next visit is waited for. For files, --timeout counts the video's own time. With --config, the process is a device: it waits for its camera, carries out
    actions, reads its configuration and bundles again on SIGHUP and ends on SIGTERM.
    """
    from device.watch import Equipment

    options = {
        "camera.source": source, "preview.kind": preview, "verifier.runtime": runtime, "verifier.precision": precision,
        "verifier.threads": threads, "decision.false_accept": _rate(operating_point),
    }  # fmt: skip

    def build() -> tuple[Settings, list[Bundle]]:
        settings = _settings(config, options)
        return settings, _open(bundles or [Path(settings.users.bundles)], needed=bool(bundles or config))

    settings, opened = build()
    if check:
        with Equipment(settings, opened):
            users = [bundle.name for bundle in opened]
            emit({"users": users}, json, lambda: f"configuration and bundles are in order: {', '.join(users)}")
        return
    Runner(settings, opened, build, once, timeout, json, service=config is not None).run()


def _rate(operating_point: str | None) -> float | None:
    if operating_point is None:
        return None
    if operating_point not in FALSE_ACCEPT:
        raise UsageError("unknown operating point", got=operating_point, expected=" or ".join(FALSE_ACCEPT))
    return FALSE_ACCEPT[operating_point]


def _settings(config: Path | None, options: dict[str, Any]) -> Settings:
    """The file's settings with the command line's in their place. Raises UsageError."""
    from dataclasses import replace

    from device.settings import CHOICES, Settings, read_settings

    settings = read_settings(config) if config else Settings()
    for name, value in options.items():
        if value is None:
            continue
        section, key = name.split(".")
        if name in CHOICES and value not in CHOICES[name]:
            raise UsageError(f"unknown {key}", got=value, expected=", ".join(CHOICES[name]))
        settings = replace(settings, **{section: replace(getattr(settings, section), **{key: value})})
    return settings


def _open(paths: list[Path], needed: bool) -> list[Bundle]:
    from device.watch import find_bundles

    if not needed:
        raise UsageError("no bundle given", expected="`toolkit run BUNDLE`, or --config FILE")
    return [bundle for path in paths for bundle in find_bundles(path)]


class Runner:
    """One run of the command: a source, what watches it, and everybody who is told."""

    def __init__(
        self, settings: Settings, bundles: list[Bundle], build: Callable[[], tuple[Settings, list[Bundle]]],
        once: bool, timeout_s: float, json: bool, service: bool,
    ):  # fmt: skip
        self.settings, self.bundles, self.build = settings, bundles, build
        self.once, self.timeout_s, self.json, self.service = once, timeout_s, json, service
        self.decisions = self.accepted = 0
        self.reason = "no_face"
        self.stopped = False

    def run(self) -> None:
        from device.sources import open_source
        from device.watch import Equipment

        camera = self.settings.camera
        source = open_source(
            camera.source, size_px=(camera.width_px, camera.height_px), fps=camera.fps, patient=self.service
        )
        with source:
            equipment = Equipment(self.settings, self.bundles)
            if source.single:
                with equipment:
                    self._photos(equipment, source)
            else:
                self.watch(equipment, source)
        if self.stopped or (self.service and source.live):
            return
        if self.once or not self.decisions:
            where = camera.source
            raise FaceError("no_decision", f"{where} ended without a decision", do=_advice(self.reason))
        note(f"{camera.source}: {self.decisions} decisions, {self.accepted} accepted")

    def watch(self, equipment: Equipment, source: Source) -> None:
        """Frames, until the source ends or a signal comes: what a device does all day."""
        from device.service import Notifier
        from device.watch import Watch

        watch, notifier = Watch(equipment), Notifier()
        with ExitStack() as stack:
            tell = self._outputs(stack, source)
            stack.callback(watch.close)
            self._handle_signals(watch, source, notifier)
            notifier.tell("READY=1")
            for moment in self._until_timeout(watch.moments(source), source.live):
                notifier.alive()
                tell(moment)
                if moment.status.decision:
                    self._decided(moment.status.decision, f"{moment.status.time_s:.2f} s", moment.status.time_s)
            notifier.tell("STOPPING=1")

    def _handle_signals(self, watch: Any, source: Source, notifier: Any) -> None:
        from device.watch import Equipment

        def stop(*_: object) -> None:
            self.stopped = True
            source.stop()

        def reload(*_: object) -> None:
            notifier.tell("STATUS=reading configuration and bundles again")
            watch.reload(lambda: Equipment(*self.build()), note)

        signal.signal(signal.SIGTERM, stop)
        if self.service:
            signal.signal(signal.SIGHUP, reload)

    def _outputs(self, stack: ExitStack, source: Source) -> Callable[[Moment], None]:
        """Open everything that is told of each moment."""
        from device.actions import Actions
        from device.pipeline import total_ms
        from device.preview import Preview, Window
        from device.service import Metrics, MetricsServer

        settings, metrics = self.settings, Metrics()
        # A peer that goes away must not end the process, as `toolkit … | head` is meant to.
        if settings.preview.kind == "web" or settings.service.metrics or settings.action:
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        shows: list[Callable[[Moment], None]] = []
        actions = stack.enter_context(Actions(settings.action, note))
        if settings.service.metrics:
            stack.enter_context(MetricsServer(metrics, settings.service.metrics))
        if settings.preview.kind == "web":
            view = settings.preview
            page = stack.enter_context(Preview(view.address, view.port, view.token))
            note(f"preview: {page.url}")
            shows.append(page.show)
        elif settings.preview.kind == "window":
            shows.append(stack.enter_context(Window()).show)

        def tell(moment: Moment) -> None:
            metrics.add(moment, total_ms(moment.observations), source.dropped)
            for show in shows:
                show(moment)
            if moment.status.changed:
                actions.tell(moment.status)
                self._log(moment)
            self._live_line(moment)

        return tell

    def _until_timeout(self, moments: Iterator[Moment], live: bool) -> Iterator[Moment]:
        """Raises FaceError when --timeout passes without a decision."""
        since = None
        for moment in moments:
            time_s = moment.status.time_s
            since = time_s if since is None or moment.status.decision else since
            self.reason = moment.status.reason or self.reason
            yield moment
            if self.timeout_s and time_s - since >= self.timeout_s:
                raise FaceError("timeout", f"no decision within {self.timeout_s:g} s", do=_advice(self.reason))

    def _photos(self, equipment: Equipment, source: Source) -> None:
        """Photos belong to no visit: each is decided on its own, by the threshold that was set on single photos."""
        from device.sources import Frame

        point = min(FALSE_ACCEPT, key=lambda name: abs(FALSE_ACCEPT[name] - self.settings.decision.false_accept))
        thresholds = {bundle.name: bundle.threshold(point) for bundle in self.bundles}
        for frame in source.frames():
            if not isinstance(frame, Frame):
                continue
            seen = equipment.pipeline.observe(frame.rgb)
            if not seen.scores:
                self.reason = seen.reason
                note(f"{frame.name}: {_advice(seen.reason)}")
                continue
            user = max(thresholds, key=lambda name: seen.scores[name] - thresholds[name])
            self._decided(_photo_decision(user, seen.scores[user], thresholds[user]), frame.name, None, frame.name)

    def _decided(self, made: Decision, where: str, time_s: float | None, file: str = "") -> None:
        self.decisions += 1
        self.accepted += made.outcome == "accepted"
        if self.json:
            emit_line(
                {
                    **({"file": file} if file else {"time_s": round(time_s or 0.0, 3)}),
                    "name": made.user,
                    "decision": made.outcome,
                    "score": round(made.score, 6),
                    "evidence": round(made.evidence, 4),
                    "bound": round(made.bound, 4),
                    "frames": made.frames,
                }
            )
        else:
            self._clear_line()
            score = f"score {made.score:+.3f} over {made.frames} frames"
            print(
                f"{where}  {made.user}: {made.outcome}  {score}, evidence {made.evidence / made.bound:.0%}", flush=True
            )
        if self.once and made.outcome != "unknown":
            raise typer.Exit(EXIT_ACCEPTED if made.outcome == "accepted" else EXIT_REJECTED)

    def _log(self, moment: Moment) -> None:
        """A device's log: every change of state, and no face."""
        if self.service and not sys.stderr.isatty():
            status = moment.status
            note(" ".join(part for part in (f"state={status.state}", status.user, status.advice) if part))

    def _live_line(self, moment: Moment) -> None:
        """Rewrite one line on a terminal; say nothing elsewhere."""
        if self.json or not sys.stderr.isatty():
            return
        status = moment.status
        text = f"{status.time_s:7.2f} s  {status.state}  {status.user}  {status.advice}  {status.share:4.0%}"
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def _clear_line(self) -> None:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _photo_decision(user: str, score: float, threshold: float) -> Decision:
    from device.decision import ACCEPTED, REJECTED, Decision

    return Decision(ACCEPTED if score >= threshold else REJECTED, user, score, threshold, score, 1)


def _advice(reason: str) -> str:
    from device.quality import ADVICE
    from device.sources import FAULTS

    return ADVICE.get(reason) or FAULTS.get(reason) or "check the picture with `toolkit verify`"
