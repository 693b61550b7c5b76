#!/bin/sh
# A 64-bit ARM Debian in a folder, run by QEMU: what a Raspberry Pi has, without the Raspberry Pi.
#
#     sudo scripts/arm64_root.sh make               Debian 12 with Python 3.11, once, about ten minutes
#     sudo scripts/arm64_root.sh install PYTHON     the device part from wheels, in a folder for each runtime
#     sudo scripts/arm64_root.sh check PYTHON       verifier, detector and bench in each of them
#     sudo scripts/arm64_root.sh tests PYTHON       the device part's tests that need no more than a device has
#     sudo scripts/arm64_root.sh deploy PYTHON      over SSH: keys, two versions of a person, rollback, bench, removal
#     sudo scripts/arm64_root.sh run COMMAND ...    anything, such as PYTHONPATH=/opt/litert python3 -m toolkit doctor
#
# PYTHON is the workstation's own, of `make setup`. The folder is HYPERVERIFY_ARM64, or ~/.cache/hyperverify/arm64. The
# processor is that of HYPERVERIFY_BOARD: pi3, pi4 or pi5 (the default); `check` takes all three.
# Needs root and Debian's debootstrap, qemu-user-static, binfmt-support; `deploy` also openssh-server. Nothing outside
# the folder is changed, but that the kernel learns to start arm64 programs until the next boot.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
root=${HYPERVERIFY_ARM64:-$HOME/.cache/hyperverify/arm64}
board=${HYPERVERIFY_BOARD:-pi5}
suite=bookworm
runtimes="litert onnxruntime"

fail() {
    echo "error: $1" >&2
    exit "$2"
}

ready() {
    [ "$(id -u)" = 0 ] || fail "this needs root; run it with sudo" 2
    for tool in debootstrap qemu-aarch64-static update-binfmts; do
        command -v "$tool" >/dev/null || fail \
            "no $tool; run \`sudo apt-get install debootstrap qemu-user-static binfmt-support\`" 3
    done
    formats=/proc/sys/fs/binfmt_misc
    [ -e $formats/register ] || mount -t binfmt_misc binfmt_misc $formats
    [ -e $formats/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64
}

# The processor, and what a Pi's kernel tells of it, for the workstation's tells of another. Without these files LiteRT
# does not know the processor and works without XNNPACK.
board() {
    [ -x "$root/usr/bin/python3" ] || fail "no arm64 Debian in $root; run \`$0 make\`" 3
    features="fp asimd evtstrm crc32 cpuid"
    case $1 in
    pi3) QEMU_CPU=cortex-a53 part=0xd03 variant=0x0 revision=4 ;;
    pi4) QEMU_CPU=cortex-a72 part=0xd08 variant=0x0 revision=3 ;;
    pi5) QEMU_CPU=cortex-a76 part=0xd0b variant=0x4 revision=1
        features="$features aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp" ;;
    *) fail "no board is called $1; expected pi3, pi4 or pi5" 2 ;;
    esac
    export QEMU_CPU
    cores=$root/sys/devices/system/cpu
    mkdir -p "$cores"
    echo 0-3 | tee "$cores/possible" >"$cores/present"
    for core in 0 1 2 3; do
        printf 'processor\t: %s\nFeatures\t: %s\nCPU implementer\t: 0x41\nCPU architecture: 8\n' $core "$features"
        printf 'CPU variant\t: %s\nCPU part\t: %s\nCPU revision\t: %s\n\n' $variant $part $revision
    done >"$root/opt/cpuinfo"
}

inside() { # the mounts are seen by this command alone and end with it
    # shellcheck disable=SC2016
    unshare --mount sh -c \
        'mount -t proc proc "$1/proc" && mount --bind "$1/opt/cpuinfo" "$1/proc/cpuinfo" && exec chroot "$@"' \
        sh "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb COLUMNS=120 \
        QEMU_CPU="$QEMU_CPU" "$@"
}

make_root() {
    [ ! -e "$root" ] || fail "$root exists; delete it to start again" 2
    rm -rf "$root.part" # of a run that was stopped
    mkdir -p "$(dirname "$root")"
    debootstrap --arch=arm64 --variant=minbase --include=python3,ca-certificates $suite "$root.part" >&2
    mv "$root.part" "$root"
}

# pip works on the workstation, for the target: emulated it takes half an hour.
pip_install() { # pip_install PYTHON ARGUMENT…
    python=$1
    shift
    platforms=$(for minor in $(seq 17 36); do echo "--platform manylinux_2_${minor}_aarch64"; done)
    # shellcheck disable=SC2086
    "$python" -m pip install --quiet --disable-pip-version-check --no-compile --only-binary :all: \
        --implementation cp --python-version 3.11 --platform manylinux2014_aarch64 $platforms "$@"
}

install() {
    for runtime in $runtimes; do
        house=$root/opt/wheels-$runtime
        PYTHONPATH=$here "$1" -m toolkit wheelhouse --target pi5-py311 --runtime "$runtime" --out "$house" --replace
        rm -rf "$root/opt/$runtime"
        pip_install "$1" --no-index --find-links "$house" --require-hashes -r "$house/requirements.txt" \
            --target "$root/opt/$runtime"
    done
}

check() {
    work=$root/opt/check
    rm -rf "$work"
    mkdir -p "$work"
    PYTHONPATH=$here "$1" "$here/tests/device_only/prepare.py" "$work"
    cp "$here/tests/device_only/check.py" "$work/check.py"
    for runtime in $runtimes; do
        for model in pi3 pi4 pi5; do
            board $model
            echo "== $runtime on $(inside uname -m) ($QEMU_CPU), $(inside python3 --version), emulated"
            inside PYTHONPATH="/opt/$runtime" python3 /opt/check/check.py /opt/check "$runtime"
        done
        inside PYTHONPATH="/opt/$runtime" python3 -m toolkit bench /opt/check/test.hvb --runs 20
    done
    rm -rf "$work"
}

# pytest works on what `install` brought; of this project only the tests are copied.
tests() {
    work=$root/opt/tests
    rm -rf "$work" "$root/opt/pytest"
    pip_install "$1" -c "$here/constraints.txt" --target "$root/opt/pytest" pytest hypothesis
    mkdir "$work"
    cp -r "$here/pyproject.toml" "$here/tests" "$work"
    inside PYTHONPATH=/opt/litert:/opt/pytest:/opt/tests/tests/device_only \
        sh -c "cd /opt/tests && python3 -m pytest -p skips -p no:cacheprovider -rs tests/device"
    rm -rf "$work"
}

# A real sshd, started by the client for each connection and talked to through a pipe; its sessions are in the folder.
deploy() {
    sshd=$(PATH=$PATH:/usr/sbin command -v sshd) || fail "no sshd; run \`sudo apt-get install openssh-server\`" 3
    python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    rm -rf "$root/var/lib/hyperverify" "$root/etc/hyperverify" # of a run before
    mkdir -p /run/sshd "$work/new"
    for key in user host; do ssh-keygen -q -t ed25519 -N "" -f "$work/$key"; done
    echo "arm64 $(cut -d " " -f 1,2 "$work/host.pub")" >"$work/known_hosts"
    session="HYPERVERIFY_ARM64=$root HYPERVERIFY_BOARD=$board $here/scripts/arm64_root.sh run PYTHONPATH=/opt/litert"
    cat >"$work/sshd" <<END
HostKey $work/host
AuthorizedKeysFile $work/user.pub
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
ForceCommand $session HYPERVERIFY_PYTHON=/usr/bin/python3 sh -c "\$SSH_ORIGINAL_COMMAND"
END
    export HYPERVERIFY_SSH="ssh -F none -i $work/user -o UserKnownHostsFile=$work/known_hosts -l root"
    HYPERVERIFY_SSH="$HYPERVERIFY_SSH -o 'ProxyCommand=$sshd -i -f $work/sshd'"
    export PYTHONPATH="$here" HYPERVERIFY_CONFIG=. HYPERVERIFY_CACHE=cache # in the work folder
    "$python" "$here/tests/device_only/prepare.py" "$work"
    "$python" "$here/tests/device_only/prepare.py" "$work/new" 8
    cd "$work"
    toolkit keys new
    toolkit devices provision arm64
    toolkit deploy test.hvb --to arm64
    toolkit deploy new/test.hvb --to arm64
    toolkit deploy --rollback test --to arm64
    toolkit devices
    toolkit bench test.hvb --on arm64 --runs 20
    toolkit deploy --remove test --to arm64
}

toolkit() {
    echo "\$ toolkit $*"
    "$python" -m toolkit "$@"
}

action=${1:-}
[ $# = 0 ] || shift
case $action in
make) ready; make_root ;;
install) ready; install "${1:?the workstation\'s PYTHON}" ;;
check) ready; check "${1:?the workstation\'s PYTHON}" ;;
tests) ready; board "$board"; tests "${1:?the workstation\'s PYTHON}" ;;
deploy) ready; deploy "${1:?the workstation\'s PYTHON}" ;;
run) ready; board "$board"; inside "$@" ;;
*) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/d;p}' "$0" >&2; exit 2 ;;
esac
