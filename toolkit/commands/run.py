"""`toolkit run`: watch a camera, a video or a folder, and decide; for a minute at a desk or for a year at a door."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import Json
from toolkit.errors import UsageError
from toolkit.output import emit
from toolkit.runner import FALSE_ACCEPT, Runner

if TYPE_CHECKING:
    from device.settings import Settings
    from export.manifest import Bundle

Bundles = Annotated[list[Path] | None, typer.Argument(help="Bundles, or a folder of them.", show_default=False)]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="A device's configuration; options on the command line override it."),
]
SourceName = Annotated[
    str | None,
    typer.Option("--source", "-s", help="0, /dev/video0, picamera, rtsp://…, a video file or a folder of photos."),
]
Once = Annotated[
    bool, typer.Option("--once", help="Stop once somebody is accepted or rejected; that is the exit code.")
]
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

    A visit ends accepted, rejected, or unknown where its evidence suffices for neither, as a stranger's short visit
    may. With --json, one JSON line a decision. With --once, exit code 0 is accepted, 10 rejected, and 4 that there was
    no decision: unknown is none, and the next visit is waited for. For files, --timeout counts the video's own time.
    With --config, the process is a device: it waits for its camera, carries out actions, reads its configuration and
    bundles again on SIGHUP and ends on SIGTERM.
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

    from device.settings import CHOICES, Settings, combinations, read_settings, refuse

    settings = read_settings(config) if config else Settings()
    for name, value in options.items():
        if value is None:
            continue
        section, key = name.split(".")
        if name in CHOICES and value not in CHOICES[name]:
            raise UsageError(f"unknown {key}", got=value, expected=", ".join(CHOICES[name]))
        settings = replace(settings, **{section: replace(getattr(settings, section), **{key: value})})
    refuse(combinations(settings), "these options and settings do not go together")
    return settings


def _open(paths: list[Path], needed: bool) -> list[Bundle]:
    from device.watch import find_bundles

    if not needed:
        raise UsageError("no bundle given", expected="`toolkit run BUNDLE`, or --config FILE")
    return [bundle for path in paths for bundle in find_bundles(path)]
