"""The core's int8 peak: a loop that no compiler leaves out, and the share of it that the C code uses."""

from __future__ import annotations

import platform

import pytest

from benchmarks.peak import achieved, int8_peak
from device.c_runtime import compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler")


def test_the_loop_takes_as_long_as_its_multiplications() -> None:
    peak = int8_peak()
    assert peak["instructions"] in ("AVX-512 VNNI", "AVX2", "plain C")
    assert 1e7 < peak["macs_per_s"] < 2e12, "no core of ours does more: the loop was computed ahead"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are its flags")
def test_each_processor_is_told_what_it_used() -> None:
    plain = int8_peak(("-march=x86-64",))
    assert plain["instructions"] == "plain C"
    assert plain["macs_per_s"] < 2e11


def test_share_of_the_peak() -> None:
    found = achieved(2_000_000, 0.5, {"instructions": "AVX2", "macs_per_s": 1e10})
    assert found["achieved_macs_per_s"] == 4e9
    assert found["share_of_peak"] == pytest.approx(0.4)
