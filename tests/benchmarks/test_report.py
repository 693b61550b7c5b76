"""The report: every kind of result, read back from its file; refused input; a page that needs nothing but itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import groups, household, kin
from benchmarks.comparisons import Comparisons
from benchmarks.report.build import build, read_results, schema
from benchmarks.report.document import Axis
from benchmarks.report.markdown import markdown_table, to_markdown
from benchmarks.report.svg import ticks
from benchmarks.score_counts import ScoreCounts
from benchmarks.score_files import summarise
from toolkit.errors import InputError

ROOT = Path(__file__).parents[2]
EVIL = "<script>alert(1)</script>"


def normal_scores() -> Comparisons:
    """20 people in 10 families, 10 photos each, everybody against everybody."""
    enrolled = np.repeat(np.arange(20), 200)
    shown = np.tile(np.repeat(np.arange(20), 10), 20)
    score = np.random.default_rng(0).normal(size=4000) + 3 * (enrolled == shown)
    return Comparisons(score, enrolled, enrolled, shown, np.tile(np.arange(200), 20))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each kind, as the commands write them, of made-up scores."""
    folder = tmp_path_factory.mktemp("results")
    c = normal_scores()
    head = {
        "schema_version": 1, "command": f"toolkit eval {EVIL}", "generator": {"version": "1", "sha256": "0" * 64},
        "enrolment": "generated", "precision": "int8", "runtime": "litert", "faces": "a.parquet", "seed": 0,
    }  # fmt: skip
    side = household.summarise(c, fused_probes=5)
    family = kin.families(tuple(f"F{i // 2}/{i}" for i in range(20)))
    labels = groups.labels_of(tuple(f"{i % 80}_{i % 2}_{i % 5}_x" for i in range(200)))
    kinds = {
        "pairs": {"one_sided": side | {"accuracy": 0.9, "standard_error": 0.01}, "both_sides": side},
        "household": {"enrolment_photos": {"5": side}},
        "kin": {"enrolment_photos": {"1": kin.summarise(c, family, {})}},
        "groups": groups.summarise(c.where(~c.mated), labels, {}),
        "scores": summarise(ScoreCounts.of(c.genuine, c.impostor)),
    }
    for kind, content in kinds.items():
        (folder / f"{kind}.json").write_text(json.dumps(head | {"kind": kind} | content))
    windows = [{"p50_ms": ms, "p99_ms": 2 * ms} for ms in (1.0, 1.5)]
    sustained = {"form": "litert/int8", "seconds": 600, "windows": windows, "slowdown": 1.5}
    bench = json.loads((ROOT / "docs" / "results" / "bench.json").read_text())
    bench |= {"cold_start_ms": {"litert": 321.0}, "sustained": sustained}
    (folder / "bench.json").write_text(json.dumps(bench))
    return folder


class Page(HTMLParser):
    """Counts tags, and remembers what could load or run anything."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.links += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]


def test_one_page_with_everything_and_nothing_from_outside(
    results: Path, toolkit: Callable[..., Any], tmp_path: Path
) -> None:
    done = toolkit("report", results, "-o", "report.html", "--title", EVIL, "--json")
    assert done.code == 0, done.err
    text = (tmp_path / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"https?://|url\(|@import", text)
    assert page.tags["script"] == 1, "names and commands are escaped"
    assert page.tags["svg"] >= 8
    assert "1.500 times the first" in text
    assert "Cold start" in text
    assert page.tags["table"] >= 7
    assert page.tags["title"] == page.tags["desc"] + 1, "every chart is told in words"
    assert sorted(done.json["results"]) == ["bench", "groups", "household", "kin", "pairs", "scores"]
    again = toolkit("report", results, "-o", "again.html", "--title", EVIL)
    assert again.code == 0
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def test_markdown_and_json_hold_the_same_numbers(results: Path, toolkit: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("r.md", "r.json", "r.html"):
        assert toolkit("report", results, "-o", name).code == 0
    document = json.loads((tmp_path / "r.json").read_text())
    cells = [c for s in document["sections"] for t in s["tables"] for row in t["rows"] for c in row]
    markdown, page = (tmp_path / "r.md").read_text(), (tmp_path / "r.html").read_text()
    assert len(cells) > 100
    for cell in cells:
        assert cell in markdown
        assert cell in page
    measured = json.loads((results / "household.json").read_text())["enrolment_photos"]["5"]
    assert f"{100 * measured['eer']:.3g}%" in cells


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a readable result file"),
        ("[1]", "not a result file"),
        ('{"kind": "other"}', "not a result file"),
        ('{"kind": "pairs", "schema_version": 7}', "another schema"),
        ('{"schema_version": 1, "device": {}}', "does not fit"),
        ('{"schema_version": 1, "targets": []}', "no place in a report"),
        ('{"kind": "pairs", "schema_version": 1}', "does not fit"),
        ('{"kind": "bench", "schema_version": 1, "latency": []}', "does not fit"),
    ],
)
def test_other_files_are_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=message):
        build(read_results([tmp_path / "x.json"]), "")


def test_a_phones_bench_is_a_result(tmp_path: Path) -> None:
    timing = {"p50_ms": 0.2, "p90_ms": 0.3, "p99_ms": 0.4, "runs": 20}
    phone = {"processor": "s5e9925", "model": "SM-S901B", "system": "Android 14", "abi": "arm64-v8a"}
    bench = {
        "schema_version": 1, "kind": "bench", "command": "toolkit bench anna.hvb --on adb:R58 --json", "threads": 1,
        "params": 22_601, "flops": 4_780_000, "latency": {"verify/c/int8": timing}, "device": phone,
        "peak_memory_bytes": {"c": 2_000_000}, "cold_start_ms": {},
    }  # fmt: skip
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    text = to_markdown(build(read_results([tmp_path / "bench.json"]), "phones"))
    assert "s5e9925" in text
    assert "| verify/c/int8 | 0.200 |" in text


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "results").glob("*.json")), ids=lambda file: str(file.stem))
def test_committed_results_fit_the_schema(file: Path) -> None:
    schema().check_schema(schema().schema)
    assert [f"{e.json_path}: {e.message[:200]}" for e in schema().iter_errors(json.loads(file.read_text()))] == []


@pytest.mark.parametrize(
    ("where", "value", "at"),
    [
        (("generator", "sha256"), "abc", r"\$\.generator\.sha256"),
        (("one_sided", "eer"), 1.5, r"\$\.one_sided\.eer"),
        (("one_sided", "at_fmr", "fmr1e-2", "fnmr", "trials"), "many", r"fnmr\.trials"),
        (("seed",), None, r"\$\.seed"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    where: tuple[str, ...], value: object, at: str, results: Path, tmp_path: Path
) -> None:
    document = json.loads((results / "pairs.json").read_text())
    place = document
    for key in where[:-1]:
        place = place[key]
    assert where[-1] in place
    place[where[-1]] = value
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="does not fit") as caught:
        read_results([tmp_path / "x.json"])
    assert re.search(at, str(caught.value)), caught.value


def test_damaged_results_never_crash(results: Path, tmp_path: Path) -> None:
    whole = json.loads((results / "household.json").read_text())
    for key in ("enrolment_photos", "kind", "schema_version"):
        (tmp_path / "x.json").write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        with pytest.raises(InputError):
            build(read_results([tmp_path / "x.json"]), "")
    with pytest.raises(InputError, match="two result files"):
        read_results([results / "kin.json", results])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no result files"):
        read_results([tmp_path / "empty"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6))
def test_axes_have_a_readable_number_of_marks(low: float, width: float) -> None:
    marks = ticks(Axis("x", low, low + width))
    assert 3 <= len(marks) <= 12
    assert all(low - 1e-6 * width <= value <= low + width * (1 + 1e-6) for value, _ in marks)


def test_a_bar_in_a_cell_does_not_split_it() -> None:
    assert markdown_table(("a", "b"), [("x|y", "")]).splitlines()[2] == "| x\\|y |   |"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_runs_the_page_without_an_error(results: Path, toolkit: Callable[..., Any], tmp_path: Path) -> None:
    """Sorting, hovering and the keyboard, done in the page by a script that this test adds."""
    assert toolkit("report", results, "-o", "report.html").code == 0
    probe = """<script>
      const chart = document.querySelector("svg.chart"), out = [];
      addEventListener("error", (e) => out.push("error " + e.message));
      const cell = () => document.querySelector("tbody th").textContent;
      const names = [...document.querySelectorAll("table")[0].tBodies[0].rows].map((r) => r.cells[0].textContent);
      document.querySelector("thead button").click(); out.push("up " + (cell() === [...names].sort()[0]));
      document.querySelector("thead button").click(); out.push("down " + (cell() === [...names].sort().reverse()[0]));
      chart.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
      out.push("tip " + /false match rate/.test(document.getElementById("tip").textContent));
      chart.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
      out.push("hidden " + document.getElementById("tip").hidden);
      document.getElementById("theme").click(); out.push("theme " + document.documentElement.dataset.theme);
      out.push("wide " + (document.documentElement.scrollWidth <= innerWidth));
      document.title = out.join("; ");
    </script></body>"""
    page = tmp_path / "probe.html"
    page.write_text((tmp_path / "report.html").read_text().replace("</body>", probe))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,844", "--dump-dom",
               f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    assert title[1] == "up true; down true; tip true; hidden true; theme dark; wide true"
