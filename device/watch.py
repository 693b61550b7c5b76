"""The loop of a device: frames in, states out. Bundles and settings can be exchanged between two frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from device.decision import SequentialTest
from device.liveness import Liveness
from device.open import open_pipeline
from device.pipeline import Observation, Pipeline
from device.score_model import ScoreModel
from device.session import Session, Status
from device.settings import Settings
from device.sources import Frame, Outage, Source
from export.manifest import MANIFEST, Bundle, open_bundle
from toolkit.errors import HyperverifyError, InputError


@dataclass(frozen=True)
class Moment:
    """One frame, what was seen in it, and the state that followed. `frame` is None during an outage."""

    frame: Frame | None
    observations: list[Observation]
    status: Status


def find_bundles(path: Path) -> list[Bundle]:
    """A bundle, or every bundle of a folder in order of their names. Raises InputError, ArtifactError."""
    if (path / MANIFEST).is_file() or not path.is_dir():
        return [open_bundle(path)]
    folders = sorted(p for p in path.iterdir() if not p.name.startswith(".") and (p / MANIFEST).is_file())
    if not folders:
        raise InputError(f"{path} holds no bundle", do="copy one here, made with `toolkit enroll`")
    return [open_bundle(folder) for folder in folders]


class Equipment(AbstractContextManager["Equipment"]):
    """Everything that settings and bundles make: a pipeline and the rules of its decisions."""

    def __init__(self, settings: Settings, bundles: list[Bundle]):
        models = {bundle.name: ScoreModel.from_manifest(bundle.manifest, str(bundle.path)) for bundle in bundles}
        test = SequentialTest(models, settings.decision)
        self.session = Session(test, settings.timing, Liveness(settings.liveness))
        self._stack = ExitStack()
        verifier, detection = settings.verifier, settings.detection
        self.pipeline: Pipeline = self._stack.enter_context(
            open_pipeline(
                bundles, verifier.runtime, verifier.precision, verifier.threads, (detection.long_side_px,),
                settings.quality, detection.every, detection.faces == "largest",
            )
        )  # fmt: skip

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Watch:
    """Runs equipment over a source. `reload` builds new equipment beside the old; no frame waits for it."""

    def __init__(self, equipment: Equipment):
        self.equipment = equipment
        self._next: Equipment | None = None
        self._lock = threading.Lock()
        self._building = threading.Lock()

    def moments(self, source: Source) -> Iterator[Moment]:
        for item in source.frames():
            self._exchange()
            pipeline, session = self.equipment.pipeline, self.equipment.session
            if isinstance(item, Outage):
                yield Moment(None, [], session.outage(item))
                continue
            seen = pipeline.follow(item.rgb, item.small)
            yield Moment(item, seen, session.update(seen, item.time_s, item.rgb))

    def reload(self, build: Callable[[], Equipment], log: Callable[[str], None]) -> threading.Thread:
        """Build on a thread of its own; what cannot be built is told, and the present equipment stays.

        Of several reloads, one builds at a time, so that the last one to begin reads what is newest and wins.
        """

        def work() -> None:
            with self._building:
                try:
                    fresh = build()
                except HyperverifyError as error:
                    log(f"not reloaded: {error}")
                    return
                with self._lock:
                    replaced, self._next = self._next, fresh
            if replaced:
                replaced.__exit__(None, None, None)
            log(f"reloaded: {len(fresh.pipeline.verifiers)} users")

        thread = threading.Thread(target=work, daemon=True, name="reload")
        thread.start()
        return thread

    def close(self) -> None:
        """Release the equipment in use, and what was built but never used."""
        with self._lock:
            unused, self._next = self._next, None
        for equipment in filter(None, (self.equipment, unused)):
            equipment.__exit__(None, None, None)

    def _exchange(self) -> None:
        """Between two frames. Failed visits and a lock-out stay in force; evidence begins anew."""
        with self._lock:
            fresh, self._next = self._next, None
        if fresh:
            fresh.session.inherit(self.equipment.session)
            self.equipment.__exit__(None, None, None)
            self.equipment = fresh
