"""Result files to a report. Raises InputError for anything that no command of this project wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from benchmarks.report import costs, robustness, sections
from benchmarks.report.document import Report, Section, Table
from benchmarks.report.sections import Results
from toolkit.errors import InputError
from toolkit.output import SCHEMA_VERSION

SECTIONS: dict[str, Callable[[Results], Section]] = {
    "pairs": sections.pairs_section,
    "flips": sections.flips_section,
    "peers": costs.peers_section,
    "household": sections.household_section,
    "kin": sections.kin_section,
    "robustness": robustness.robustness_section,
    "photographs": robustness.photographs_section,
    "groups": sections.groups_section,
    "scores": sections.scores_section,
    "bench": costs.bench_section,
    "instructions": costs.instructions_section,
}
SCHEMA = Path(__file__).with_name("schema.json")


def read_results(paths: list[Path]) -> Results:
    """Result files, and those in folders, by their name without suffix. Raises InputError.

    In a folder, the documents of scripts, which have no kind, are left out.
    """
    files = [(inside, path.is_dir()) for path in paths
             for inside in (sorted(path.glob("*.json")) if path.is_dir() else [path])]  # fmt: skip
    results: Results = {}
    for file, in_folder in files:
        content = _read(file)
        if in_folder and "kind" not in content:
            continue
        if content.get("kind") not in SECTIONS:
            raise InputError(f"{file} has no place in a report", got="no kind", expected=", ".join(SECTIONS))
        if file.stem in results:
            raise InputError(f"two result files are called {file.stem}", do="rename one, since the report shows names")
        results[file.stem] = content
    if not results:
        raise InputError("no result files", got=", ".join(map(str, paths)), do="name files that `--json` printed")
    return results


@cache
def schema() -> Draft202012Validator:
    """What every result file must fit: schema.json."""
    return Draft202012Validator(json.loads(SCHEMA.read_bytes()))


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is not a readable result file", got=error) from error
    if not isinstance(content, dict) or content.get("kind", "pairs") not in SECTIONS:
        kind = f"kind {content['kind']}" if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{file} is not a result file", got=kind, expected=", ".join(SECTIONS))
    if content.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{file} has another schema", got=content.get("schema_version"), expected=SCHEMA_VERSION)
    if wrong := best_match(schema().iter_errors(content)):
        got = f"{wrong.message[:200]} (at {wrong.json_path})"
        raise InputError(f"{file} does not fit the schema of result files", got=got, do="measure again")
    return content


def build(results: Results, title: str) -> Report:
    """Raises InputError naming the kind whose files lack something."""
    chapters = []
    for kind, section in SECTIONS.items():
        chosen = {name: content for name, content in results.items() if content["kind"] == kind}
        if not chosen:
            continue
        try:
            chapters.append(section(chosen))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(
                f"a result of kind {kind} is not complete", got=f"{', '.join(chosen)}: {error!r}", do="measure again"
            ) from error
    return Report(title, chapters, sources(results))


def sources(results: Results) -> Table:
    """Where every number came from, one row a file."""
    rows = []
    for name, r in results.items():
        how = [str(r[key]) for key in ("precision", "runtime", "enrolment") if key in r]
        what = ", ".join([str(r.get("generator", {}).get("version", "")), *how]).strip(", ") or "–"
        data = ", ".join(str(r[key]) for key in ("faces", "split", "pairs", "negatives_from", "files") if r.get(key))
        digest = str(r.get("faces_sha256", ""))[:12]
        seed = f"seed {r['seed']}" if "seed" in r else "–"
        rows.append((name, str(r.get("command", "–")), what, f"{data} {digest}".strip() or "–", seed))
    note = (
        "Rates: errors over trials; the interval is the wider of Clopper–Pearson's over pairs and the bootstrap over "
        "people, 95 %. Thresholds “at FMR” are set on the impostors of the same run. With no error seen, the rule of "
        "three gives the upper limit."
    )
    return Table("Where every number came from", ("result", "command", "what was measured", "data", "seed"), rows, note)
