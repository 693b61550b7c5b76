#!/bin/sh
# The device's tests on emulated 64-bit ARM, in the Debian that scripts/arm64_root.sh made and installed the device part in.
#
#     sudo scripts/arm64_tests.sh PYTHON [PYTEST ARGUMENTS ...]
#
# PYTHON is the workstation's own, of `make setup`: pytest and hypothesis are copied from it, for they are pure Python.
# Without arguments: those of tests/device that need none of the workstation's packages. An hour or more on a busy machine.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
root=${HYPERVERIFY_ARM64:-$HOME/.cache/hyperverify/arm64}
python=${1:?the workstation\'s PYTHON}
shift
[ -x "$root/opt/litert/bin/python" ] || {
    echo "error: no device part in $root; run \`scripts/arm64_root.sh make\` and \`install PYTHON\` first" >&2
    exit 3
}
work=$root/opt/tests
rm -rf "$work"
mkdir -p "$work/packages"
tar -C "$here" -cf - benchmarks device export models toolkit tests pyproject.toml | tar -C "$work" -xf -
"$python" - "$work/packages" <<'END'
import importlib.metadata, shutil, sys
from pathlib import Path

for name in ("pytest", "pluggy", "iniconfig", "packaging", "pygments", "hypothesis", "sortedcontainers", "attrs"):
    for file in importlib.metadata.files(name) or ():
        if file.suffix in (".py", ".txt", "") and ".." not in file.parts:
            target = Path(sys.argv[1], file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), target)
END
[ $# -gt 0 ] || set -- tests/device/test_decision.py tests/device/test_settings.py tests/device/test_service.py \
    tests/device/test_sources.py tests/device/test_actions.py -k "not shipped_calibration"
exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 PYTHONPATH=/opt/tests/packages:/opt/tests \
    sh -c 'cd /opt/tests && exec /opt/litert/bin/python -m pytest -p no:cacheprovider "$@"' sh "$@"
