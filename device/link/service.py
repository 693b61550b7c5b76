"""The service that runs the bundles: restarted after a change where it exists, left alone where it does not."""

from __future__ import annotations

import shutil
import subprocess
import time

UNIT = "hyperverify.service"
SETTLE_S = 2.0  # a service that fails at its start does so within this time


class Service:
    """systemd's hyperverify.service."""

    def present(self) -> bool:
        return shutil.which("systemctl") is not None and self._systemctl("cat") == 0

    def active(self) -> bool:
        return self._systemctl("is-active", "--quiet") == 0

    def restart(self) -> str:
        """Restart, wait, look. What went wrong, or nothing; a device without the unit has nothing to go wrong."""
        if not self.present():
            return ""
        self._systemctl("reset-failed")
        if self._systemctl("restart") != 0:
            return f"{UNIT} does not start"
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            if not self.active():
                return f"{UNIT} started and stopped again"
            time.sleep(SETTLE_S / 10)
        return ""

    def describe(self) -> str:
        return ("active" if self.active() else "stopped") if self.present() else "not installed"

    def _systemctl(self, *arguments: str) -> int:
        command = ["systemctl", *arguments, UNIT]
        try:
            return subprocess.run(command, capture_output=True, timeout=60).returncode
        except (OSError, subprocess.TimeoutExpired):
            return -1


class NoService(Service):
    """On a card that is not running: this machine's service is another's."""

    def present(self) -> bool:
        return False

    def active(self) -> bool:
        return False
