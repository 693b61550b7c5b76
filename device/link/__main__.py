"""`python -m device.link`: the device's end of a link, on standard input and output; other words do one thing and end.

recover   mend what an interruption left
test      can the verifiers on this device run with these packages? Says why not, and exits with its code
restart   the service, if it runs; fails if it does not run afterwards
"""

from __future__ import annotations

import sys

from device.link.agent import Agent
from device.link.folders import device_folders
from device.link.preflight import check_packages
from toolkit.errors import HyperverifyError


def main(word: str) -> None:
    agent = Agent(device_folders())
    match word:
        case "recover":
            agent.installer.recover()
        case "test":
            check_packages()
            agent.installer.test_everybody()
        case "restart":
            agent.installer.restart_service()
        case _:
            agent.serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "")
    except HyperverifyError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
