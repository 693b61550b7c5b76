"""What the documents say is what was measured, and every file that they name exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", ["README.md", "docs/model-card.md", "docs/enrolment.md", "docs/export.md"])
def test_tables_are_those_of_the_results(page: str) -> None:
    code = (
        "import tables, sys, pathlib;"
        "sys.stdout.write(tables.filled(pathlib.Path(sys.argv[1]).read_text(), tables.read_results()))"
    )
    command = [sys.executable, "-c", code, str(ROOT / page)]
    done = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True, check=True)
    text = (ROOT / page).read_text()
    assert re.search(r"<!-- \w+ -->", text)
    assert done.stdout == text, "run `python scripts/tables.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
