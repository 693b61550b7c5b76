"""Stands in for `ssh` in tests: passes everything on, and cuts after so many bytes from the workstation.

relay.py MODE BYTES COMMAND…      MODE: kill-link (the ssh client dies), kill-workstation (the toolkit dies), or
                                  kill-rested-link (the ssh client dies when what it holds has had time to arrive)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time


def main() -> None:
    mode, left, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    ssh = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert ssh.stdin is not None
    while chunk := os.read(0, max(1, min(left, 1 << 15))):
        ssh.stdin.write(chunk)
        ssh.stdin.flush()
        left -= len(chunk)
        if left <= 0:
            if mode == "kill-rested-link":
                time.sleep(3)
            if mode == "kill-workstation":
                os.kill(os.getppid(), signal.SIGKILL)
            ssh.kill()
            sys.exit(255)
    ssh.stdin.close()
    sys.exit(ssh.wait())


if __name__ == "__main__":
    main()
