"""Phones, by the real adb client and server, talking to a stand-in that speaks a phone's side of the protocol."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from adbd import Adbd
from link_support import Toolkit

Releases = tuple[Path, Path]
Run = Callable[..., Any]
ABI = {"x86_64": "x86_64", "aarch64": "arm64-v8a"}.get(platform.machine(), "")
GETPROP = """#!/bin/sh
case $1 in
ro.product.cpu.abi) echo "$(cat {folder}/abi)" ;;
ro.product.model) echo Test ;;
ro.soc.model) echo Chip ;;
ro.build.version.release) echo 14 ;;
esac
"""


# Its programs are one step off.
BAD_COMPILER = """#!/bin/sh
for file in "$@"; do case $file in *.c) sed -i 's/(long)hv_score(rgb, arena)/& + 1/' "$file" ;; esac; done
exec gcc "$@"
"""


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Adbd]:
    for tool in ("adb", "gcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (apt install adb gcc)")
    if not ABI:
        pytest.skip("this processor is no phone's")
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone-bin").mkdir()
    (tmp_path / "abi").write_text(ABI)
    program = tmp_path / "phone-bin/getprop"
    program.write_text(GETPROP.format(folder=tmp_path))
    program.chmod(0o755)
    made = Adbd(tmp_path / "phone", tmp_path / "phone-bin")
    made.start()
    yield made
    made.listener.close()


@pytest.fixture
def run(phone: Adbd, toolkit: Toolkit, tmp_path: Path) -> Iterator[Run]:
    """The toolkit, and an adb server of its own that knows this phone."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    environment = {"ANDROID_ADB_SERVER_PORT": port, "HOME": str(tmp_path), "CC": "gcc"}

    def adb(*words: str) -> str:
        command = ["adb", *words]
        return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60).stdout

    try:
        assert "connected to" in adb("connect", f"127.0.0.1:{phone.port}")

        def do(*arguments: object, **more: str) -> Any:
            adb("connect", f"127.0.0.1:{phone.port}")
            return toolkit(*arguments, **{**environment, **more})

        yield do
    finally:
        adb("kill-server")


def test_a_bundle_is_tested_and_timed_on_a_phone(run: Run, phone: Adbd, releases: Releases, tmp_path: Path) -> None:
    to = f"adb:127.0.0.1:{phone.port}"
    sealed = run("deploy", releases[0], "--to", to)
    assert (sealed.code, "--plain" in sealed.err) == (2, True)
    early = run("bench", releases[0], "--on", to, "--runs", 20)
    assert (early.code, "deploy it first" in early.err) == (4, True)
    done = run("deploy", releases[0], "--to", to, "--plain", "--json")
    assert done.code == 0, done.out + done.err
    (person,) = done.json["devices"][0]["people"]
    assert (person["action"], person["self_test"]["vectors"]) == ("added", 8)
    folder = tmp_path / "phone/hyperverify/anna.hvb"
    assert (folder / "model.int8.tflite").read_bytes() == (releases[0] / "model.int8.tflite").read_bytes()
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    before = phone.pushed_bytes
    assert run("deploy", releases[0], "--to", to, "--plain", "--json").json["devices"][0]["people"][0]["action"] == (
        "unchanged"
    )
    assert phone.pushed_bytes == before
    timed = run("bench", releases[0], "--on", to, "--runs", 20, "--raw", "base.json", "--json")
    assert timed.code == 0, timed.err
    assert timed.json["latency"]["verify/c/int8"]["runs"] == 20
    assert timed.json["device"]["processor"] == "Chip"
    assert run("deploy", "--remove", "anna", "--to", to).code == 0
    assert not list((tmp_path / "phone/hyperverify").iterdir())


@pytest.mark.long
def test_the_cable_is_pulled_and_the_code_is_wrong(run: Run, phone: Adbd, releases: Releases, tmp_path: Path) -> None:
    to = f"adb:127.0.0.1:{phone.port}"
    assert run("deploy", releases[0], "--to", to, "--plain").code == 0
    model = tmp_path / "phone/hyperverify/anna.hvb/model.int8.tflite"
    phone.cut_after = phone.pushed_bytes + 100_000
    pulled = run("deploy", releases[1], "--to", to, "--plain")
    assert (pulled.code, "adb" in pulled.out) == (6, True)
    assert model.read_bytes() == (releases[0] / "model.int8.tflite").read_bytes()
    phone.cut_after = None
    compiler = tmp_path / "phone-bin/bad-cc"
    compiler.write_text(BAD_COMPILER)
    compiler.chmod(0o755)
    wrong = run("deploy", releases[1], "--to", to, "--plain", CC=str(compiler))
    assert (wrong.code, "failed its self-test" in wrong.out) == (5, True)
    assert model.read_bytes() == (releases[0] / "model.int8.tflite").read_bytes()
    (tmp_path / "abi").write_text("riscv64")
    assert run("deploy", releases[1], "--to", to, "--plain").code == 2
    (tmp_path / "abi").write_text(ABI)
    assert run("deploy", releases[1], "--to", to, "--plain").code == 0
    assert model.read_bytes() == (releases[1] / "model.int8.tflite").read_bytes()


def test_what_is_not_for_phones_is_told(toolkit: Toolkit, releases: Releases) -> None:
    assert toolkit("deploy", "--rollback", "anna", "--to", "adb:x").code == 2
    assert toolkit("deploy", releases[0], "--plain", "--to", "adb:-x").code == 2
    nobody = toolkit("deploy", releases[0], "--plain", "--to", "adb:x", PATH="/nonexistent")
    assert (nobody.code, "sudo apt install adb" in nobody.out) == (3, True)
