#!/bin/sh
# The device part alone: an environment with tflite-runtime, OpenCV and numpy 1, and nothing of the workstation.
#     test_device.sh PYTHON WORKSTATION_PYTHON
set -eu
python=$1
workstation=$2
if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    echo "test-device skipped: tflite-runtime has wheels up to Python 3.11 only"
    exit 0
fi
[ -x .venv-device/bin/python ] || "$python" -m venv .venv-device
.venv-device/bin/pip install --quiet --disable-pip-version-check -e '.[tflite]'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$workstation" tests/device_only/prepare.py "$work"
.venv-device/bin/python tests/device_only/check.py "$work"
