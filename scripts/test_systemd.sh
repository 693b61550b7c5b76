#!/bin/sh
# The device's unit under a real systemd: a container that boots this machine's own system on an empty, passing root.
#     test_systemd.sh BUNDLE VIDEO [PYTHON]
# As root; Debian: apt install systemd systemd-container. VIDEO shows the bundle's person; PYTHON has the device's packages.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
bundle=$(realpath "$1")
video=$(realpath "$2")
python=${3:-$root/.venv-device/bin/python}
# The home of whoever runs this is closed to the unit: what Python needs goes to /opt.
base=$("$python" -c 'import sys; print(sys.base_prefix)')
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cp -r "$bundle" "$out/bundle.hvb"
cp "$video" "$out/visit.avi"
# --volatile=yes: /usr is this machine's, read-only; everything else is empty and forgotten.
timeout 300 systemd-nspawn --quiet --directory=/ --volatile=yes --boot --register=no --keep-unit --private-network \
    --machine=hyperverify-test --console=pipe --bind="$out:/opt/out" --bind-ro="$root:/opt/hyperverify" \
    --bind-ro="$base:/opt/python" --bind-ro="$packages:/opt/packages" \
    --bind-ro=/dev/null:/etc/systemd/system/systemd-firstboot.service \
    --bind-ro="$root/scripts/systemd/check.service:/etc/systemd/system/check.service" \
    -- --unit=check.service >"$out/console" 2>&1 || true
[ -f "$out/report" ] || { cat "$out/console"; echo "systemd did not boot here"; exit 1; }
cat "$out/report"
grep -q '^everything held$' "$out/report"
