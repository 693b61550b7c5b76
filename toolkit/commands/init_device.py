"""`toolkit init-device`: a device's configuration, and the systemd unit that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import Json
from toolkit.errors import UsageError
from toolkit.output import emit

File = Annotated[Path, typer.Argument(help="Where the configuration goes; on a device /etc/hyperverify/device.toml.")]
Unit = Annotated[
    Path | None,
    typer.Option("--unit", help="Also write the systemd unit for this configuration, which may exist already."),
]


def init_device(file: File = Path("device.toml"), unit: Unit = None, json: Json = False) -> None:
    """Write a commented configuration with every setting, and with --unit a hardened systemd unit that fits it.

    An existing configuration is never overwritten; with --unit it is read, and the unit allows what it needs: a
    network only for actions, previews and cameras that use one.
    """
    from device.settings import TEMPLATE, read_settings
    from device.unit import interpreter, unit_text
    from toolkit.atomic import write_atomically

    if file.exists() and unit is None:
        raise UsageError(f"{file} exists already", do="choose another name, or pass --unit to write a unit for it")
    if unit is not None and unit.exists():
        raise UsageError(f"{unit} exists already", do="choose another name")
    written = []
    if not file.exists():
        write_atomically(file, TEMPLATE.read_bytes())
        written.append(file)
    if unit is not None:
        config = file.resolve()
        python = interpreter()
        command = f"{python} -m toolkit"
        if any(character in f"{command}{config}".replace(" -m ", "") for character in " %\"'\\"):
            raise UsageError("a unit cannot name a path with blanks, quotes or %", got=f"{config}, {python}")
        write_atomically(unit, unit_text(read_settings(file), command, config).encode(), mode=0o644)
        written.append(unit)
    emit({"written": [str(path) for path in written]}, json, lambda: "\n".join(map(str, written)))
