"""What the documents say is what was measured, and every file that they name exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from benchmarks.report.build import SECTIONS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{name}.md" for name in ("model-card", "enrolment", "export", "ablations", "device"))]
)
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


def test_results_page_is_that_of_the_result_files() -> None:
    command = [sys.executable, "-c", "import tables, sys; sys.stdout.write(tables.results_page())"]
    done = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True, check=True)
    assert done.stdout == (ROOT / "docs" / "results.md").read_text(), "run `make results`"


def test_a_long_day_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from device_tables import soak

    day = json.loads((ROOT / "docs" / "results" / "soak.json").read_text())
    replay = day["replay"] | {"hours_asked": 8, "size_px": [320, 240], "frames": 144_000, "wall_s": 1440.0}
    short, whole = (soak({"soak": day | {"replay": replay | {"video_hours": hours}}}) for hours in (4.0, 7.99))
    assert "4.0 hours in 24 minutes" in short
    assert "have not been shown" in short
    assert "the clock ended the run" in short
    assert "Video at 5 fps of 320×240 pixels, replayed 20 times" in whole
    assert "not been shown" not in whole
    assert "clock" not in whole


def test_every_kind_of_result_is_described() -> None:
    page = (ROOT / "docs" / "results" / "README.md").read_text()
    for kind in SECTIONS:
        assert f"| `{kind}` |" in page, kind


def test_results_are_those_of_the_shipped_weights() -> None:
    shipped = sha256((ROOT / "models" / "weights" / "h.onnx").read_bytes()).hexdigest()
    measured = {file.stem: json.loads(file.read_text()) for file in (ROOT / "docs" / "results").glob("*.json")}
    others = [name for name, r in measured.items() if r.get("generator", {"sha256": shipped})["sha256"] != shipped]
    assert not others, "measured with other weights: run `make results DATA=…`"


def test_the_shipped_weights_are_small() -> None:
    assert sum(file.stat().st_size for file in (ROOT / "models" / "weights").iterdir()) <= 16_000_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
