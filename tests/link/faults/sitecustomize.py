"""Loaded by the agent of a test device: ends or fails it at the N-th change it makes to its files.

`fault` beside the device's root holds "KIND N"; KIND is kill, ENOSPC, EROFS or count. Python's own audit events number
the changes, so that every step is met without a line about tests in the device part.
"""

import errno
import os
import signal
import sys

_ROOT = os.environ.get("HYPERVERIFY_DEVICE_ROOT", "")
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.chmod"}
_FREE = {"os.remove", "os.rmdir", "os.rename", "os.chmod"}  # what a full card still allows


def _install() -> None:
    try:
        with open(_ROOT + ".fault") as stream:  # noqa: PTH123
            kind, number = stream.read().split()
    except OSError:
        return
    left = [int(number)]

    def watch(event: str, args: tuple) -> None:
        writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        changes = writes or event in _CHANGES
        if not changes or not str(args[1] if event == "os.symlink" else args[0]).startswith(_ROOT):
            return
        left[0] -= 1
        if kind == "count":
            os.write(_log, f"{event}\n".encode())
        elif left[0] == 0 and kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif left[0] <= 0 and kind != "kill" and (kind != "ENOSPC" or event not in _FREE):
            code = getattr(errno, kind)  # a full or read-only card stays so
            raise OSError(code, os.strerror(code), str(args[0]))

    _log = os.open(_ROOT + ".steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND) if kind == "count" else -1
    sys.addaudithook(watch)


if _ROOT:
    _install()
