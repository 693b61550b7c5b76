"""`python -m device.link`: the device's end of a link, on standard input and output; `recover` mends and leaves."""

from __future__ import annotations

import sys

from device.link.agent import Agent
from device.link.folders import device_folders

if __name__ == "__main__":
    agent = Agent(device_folders())
    if sys.argv[1:] == ["recover"]:
        agent.installer.recover()
    else:
        agent.serve(sys.stdin.buffer, sys.stdout.buffer)
