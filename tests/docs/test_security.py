"""Every control that docs/security.md claims has the test that it names."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_threat_names_a_test_that_exists() -> None:
    rows = [line for line in (ROOT / "docs/security.md").read_text().splitlines() if re.match(r"\| [STRIDE] \|", line)]
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("*/test_*.py"))
    assert {row[2] for row in rows} == set("STRIDE")
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        for name in named:
            assert f"def {name}(" in tests, name
