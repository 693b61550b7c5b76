"""`toolkit pam`: unlock a login by face, called by pam_exec."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from toolkit.errors import EXIT_REJECTED, InputError, UsageError

Config = Annotated[Path, typer.Option("--config", "-c", help="The device's configuration.")]
Within = Annotated[float, typer.Option("--timeout", min=0.5, max=60, help="Seconds to be recognised in.")]


def pam(config: Config = Path("/etc/hyperverify/device.toml"), timeout: Within = 5.0) -> None:
    """Exit code 0 if the camera shows the user who logs in ($PAM_USER), within the time; any other: not.

    10: somebody else was told apart. 4: nobody usable, or too little evidence either way.

    In /etc/pam.d: `auth sufficient pam_exec.so quiet /usr/local/bin/toolkit pam`. The user's bundle has the login's
    name. Only that bundle is opened, and the configured actions are not carried out. Ask for a challenge in [liveness]:
    without one, a good photo may unlock.
    """
    from dataclasses import replace

    from device.settings import read_settings
    from device.watch import find_bundles
    from toolkit.runner import Runner

    user = os.environ.get("PAM_USER", "")
    if not user:
        raise UsageError("$PAM_USER is not set", do="let pam_exec call this command")
    settings = read_settings(config)
    mine = [bundle for bundle in find_bundles(Path(settings.users.bundles)) if bundle.name == user]
    if not mine:
        raise InputError(f"no bundle is named {user}", do=f"enrol them as {user}")
    quiet = replace(
        settings,
        action=(),
        preview=replace(settings.preview, kind="off"),
        service=replace(settings.service, metrics=""),
    )
    Runner(quiet, mine, lambda: (quiet, mine), once=True, timeout_s=timeout, json=False, service=False).run()
    raise typer.Exit(EXIT_REJECTED)
