"""Ends or fails a process at the N-th change it makes to the files below a device's root.

`ROOT.fault` holds "KIND N"; KIND is kill, ENOSPC, EROFS or count. Python's own audit events number the changes, so that
every step is met without a line about tests in the device part.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.chmod"}
FREE = {"os.remove", "os.rmdir", "os.rename", "os.chmod"}  # what a full card still allows


def install(root: str) -> None:
    try:
        with open(root + ".fault") as stream:  # noqa: PTH123
            kind, number = stream.read().split()
    except OSError:
        return
    left = [int(number)]
    log = os.open(root + ".steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND) if kind == "count" else -1

    def watch(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (writes or event in CHANGES):
            return
        if not str(args[1] if event == "os.symlink" else args[0]).startswith(root):
            return
        left[0] -= 1
        if kind == "count":
            os.write(log, f"{event}\n".encode())
        elif left[0] == 0 and kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif left[0] <= 0 and kind != "kill" and (kind != "ENOSPC" or event not in FREE):
            code = getattr(errno, kind)  # a full or read-only card stays so
            raise OSError(code, os.strerror(code), str(args[0]))

    sys.addaudithook(watch)
