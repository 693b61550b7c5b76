"""The picture of the arena: well-formed, one box a buffer, each where the plan puts it, and the one in the docs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from export.arena import plan_arena
from models.spec import DEFAULT_SPEC

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def test_every_buffer_has_its_box_and_the_docs_show_it(tmp_path: Path) -> None:
    target = tmp_path / "arena.svg"
    subprocess.run([sys.executable, "scripts/arena_map.py", str(target)], cwd=ROOT, check=True, capture_output=True)
    assert target.read_text() == (ROOT / "docs" / "img" / "arena.svg").read_text(), "run scripts/arena_map.py"
    plan = plan_arena(DEFAULT_SPEC, 1)
    titles = {title.text for title in ElementTree.parse(target).getroot().iter(f"{SVG}title")}
    assert titles == {f"{n}: {plan.sizes[n]:,} bytes at {plan.offsets[n]:,}" for n in plan.sizes}
