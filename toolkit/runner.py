"""What `toolkit run` and `toolkit pam` do with a source: watch it, decide, and tell everybody who wants to know."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import typer

from toolkit.errors import EXIT_ACCEPTED, EXIT_REJECTED, FaceError
from toolkit.output import emit_line, note

if TYPE_CHECKING:
    from device.decision import Decision
    from device.settings import Settings
    from device.sources import Source
    from device.watch import Equipment, Moment
    from export.manifest import Bundle

FALSE_ACCEPT = {"fmr1e-2": 1e-2, "fmr1e-3": 1e-3, "fmr1e-4": 1e-4}


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
            if remark := equipment.pipeline.verifier.remark:
                note(remark)
            if source.single:
                with equipment:
                    self._photos(equipment, source)
            else:
                self.watch(equipment, source)
        if self.stopped and self.once:  # 0 would open the door
            raise FaceError("no_decision", "stopped before a decision")
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
        actions = stack.enter_context(Actions(settings.action, note, settings.timing.hold_s))
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
