"""The configuration: its template, its mistakes, and whatever else a file may hold."""

from __future__ import annotations

import contextlib
import re
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import device.unit
from device.settings import TEMPLATE, Settings, parse_settings, read_settings
from device.unit import unit_text
from toolkit.errors import UsageError


def parse(text: str) -> Settings:
    return parse_settings(text.encode(), "device.toml")


def test_the_template_is_the_default_and_names_every_setting() -> None:
    assert read_settings(TEMPLATE) == Settings()
    values = re.sub(r"^# (?=\w+ = )", "", TEMPLATE.read_text().split("# Any number of actions")[0], flags=re.MULTILINE)
    assert parse(values) == Settings(), "every commented value is the default"
    named = {f"{section}.{key}" for section, table in tomllib.loads(values).items() for key in table}
    known = {f"{name}.{key}" for name, value in vars(Settings()).items() if name != "action" for key in vars(value)}
    assert named == known
    actions = TEMPLATE.read_text().split("# Any number of actions")[1]
    examples = parse("\n".join(line.removeprefix("# ") for line in actions.splitlines()[3:]))
    assert [action.kind for action in examples.action] == ["command", "gpio", "webhook", "mqtt"]


def test_values_are_read() -> None:
    found = parse(
        '[camera]\nsource = "picamera"\nfps = 30\n[decision]\nfalse_accept = 1e-4\n[quality]\npitch = [0, 1]\n'
        '[[action]]\nkind = "command"\ncommand = ["true"]\non = ["accepted", "locked-out"]'
    )
    assert found.camera.fps == 30.0
    assert found.decision.false_accept == 1e-4
    assert found.quality.pitch == (0.0, 1.0)
    assert found.action[0].on == ("accepted", "locked-out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[camrea]", "section camrea is unknown; did you mean camera?"),
        ("[decision]\nfalse_acept = 1", r"\[decision\] false_acept is unknown; did you mean false_accept?"),
        ("[decision]\nfalse_accept = 2.0", r"false_accept = 2.0: expected 1e-06 to 0.5"),
        ("[decision]\nframes = 2.5", "frames = 2.5: expected a whole number"),
        ("[decision]\nfalse_accept = nan", "false_accept = nan: expected a number"),
        ("[timing]\nhold_s = true", "hold_s = True: expected a number"),
        ("[timing]\nlockout_s = 100\nlockout_longest_s = 10", "lockout_longest_s is shorter"),
        ("[verifier]\nruntime = 'tensorrt'", "expected auto or litert or"),
        ("[preview]\nkind = 'web'\naddress = '0.0.0.0'", "needs a token of at least 16"),
        ("[preview]\ntoken = 'a;b'", "a token may hold letters"),
        ("[[action]]\nkind = 'webhook'", "the kind webhook needs url"),
        ("[[action]]\nkind = 'webhook'\nurl = 'file:///etc/passwd'", "url must begin with http"),
        ("[[action]]\ncommand = ['x']\non = ['opened']", "expected searching or"),
        ("[quality]\npitch = [1]", "expected a list of 2 numbers"),
        ("camera = 3", r"\[camera\] is not a section"),
        ("[camera", "is not TOML"),
    ],
)
def test_every_mistake_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse("[camera]\nfps = 0\nwidht_px = 3\n[timing]\nhold_s = 'x'")
    assert str(caught.value).count("\n  ") == 3


VALUES = st.recursive(
    st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
NAMES = sorted({*vars(Settings()), *(key for value in vars(Settings()).values() if value != () for key in vars(value))})


@given(st.dictionaries(st.sampled_from(NAMES), st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3), max_size=3))
@settings(max_examples=200, deadline=None)
def test_any_tables_are_settings_or_a_clear_refusal(tables: dict[str, dict[str, object]]) -> None:
    from device.settings import _settings, combinations  # what TOML can hold, without writing it

    problems: list[str] = []
    found = _settings(tables, problems)
    if not problems:
        assert isinstance(found, Settings)
        combinations(found)


@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"[[[[")
@example(b"a = " + b"[" * 5000)
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_settings_or_a_clear_refusal(data: bytes) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(parse_settings(data, "device.toml"), Settings)


def test_the_unit_allows_what_the_configuration_needs_and_no_more(tmp_path: Path) -> None:
    def unit(text: str) -> str:
        return unit_text(parse(text), "/opt/python -m toolkit", Path("/etc/hyperverify/device.toml"))

    closed = unit("")
    assert "ExecStart=/opt/python -m toolkit run --config /etc/hyperverify/device.toml\n" in closed
    assert "PrivateNetwork=yes" in closed
    assert "@" not in closed.replace("@system-service", "").replace("@privileged @resources", "")
    assert "gpio" not in closed
    assert not re.search("^ProcSubset=", closed, re.M)  # it hides /proc/cpuinfo, which LiteRT needs on ARM
    served = unit('[preview]\nkind = "web"')
    assert "IPAddressAllow=localhost" in served
    assert "PrivateNetwork" not in served
    for text in (
        '[[action]]\nkind = "mqtt"\nhost = "h"\ntopic = "t"',
        '[camera]\nsource = "rtsp://10.0.0.2/s"',
    ):
        assert "AF_INET6" in unit(text)
    assert "DeviceAllow=char-gpiochip rw" in unit('[[action]]\nkind = "gpio"')
    assert "DeviceAllow=char-dma_heap rw" in unit('[camera]\nsource = "picamera"')


def test_a_unit_follows_the_link_that_updates_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.unit.interpreter() == Path(sys.executable)
    (link := tmp_path / "venv").symlink_to(Path(sys.prefix).resolve())
    monkeypatch.setattr(device.unit, "ENVIRONMENT", link)
    assert device.unit.interpreter() == link / "bin" / "python"
