"""Measure the shipped weights again: run every evaluation, one result file each, then write what the documents say.

    python scripts/results.py --data DATA [--only pairs-int8,kin-int8] [--bundle demo/obama.hvb]

DATA holds lfw/view1.parquet, lfw/view2.parquet, lists of pairs, faces/*.parquet
(docs/evaluation.md names their columns), photos/PERSON/.
MobileFaceNet comes from `toolkit models fetch mobilefacenet`; without it the table of peers says so. Without --data
only the documents are written, from the results that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import tables

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PRECISIONS = ("fp32", "int8")
HELD_OUT = ["--faces", "{data}/faces", "--split", "val"]
PAIRS = ["pairs", "--faces", "{data}/lfw/view2.parquet", "--pairs", "{data}/lfw/pairs.txt"]
RUNS = {
    **{f"pairs-{p}": [*PAIRS, "--precision", p] for p in PRECISIONS},
    **{f"household-{p}": ["household", *HELD_OUT, "--enrol", "1,3,5", "--precision", p] for p in PRECISIONS},
    "household-plain-int8": ["household", *HELD_OUT, "--enrol", "3,5", "--plain-mean", "--precision", "int8"],
    **{f"kin-{p}": ["kin", *HELD_OUT, "--enrol", "1,3", "--precision", p] for p in PRECISIONS},
    "flips": ["flips", "--faces", "{data}/lfw/view1.parquet", "--pairs", "{data}/lfw/pairsDevTest.txt"],
    "peers-int8": ["peers", *PAIRS[1:], "--precision", "int8"],
    "groups-int8": ["groups", *HELD_OUT, "--negatives", "{utk}", "--precision", "int8"],
    "robustness-int8": ["robustness", *PAIRS[1:], "--precision", "int8"],
    "photographs-int8": ["photographs", "{data}/photos", "--enrol", "3", "--precision", "int8"],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the shipped weights again.")
    parser.add_argument("--data", type=Path, help="folder with lfw/, faces/ and photos/")
    parser.add_argument("--only", default="", help="names of runs, with commas: " + ", ".join(RUNS))
    parser.add_argument("--bundle", type=Path, help="measure latency on this bundle too")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else list(RUNS)
    if unknown := set(wanted) - set(RUNS):
        parser.error(f"no such run: {', '.join(sorted(unknown))}")
    if arguments.data:
        arguments.data = arguments.data.resolve()
        with tempfile.TemporaryDirectory() as folder:
            utk = strangers(arguments.data / "faces", Path(folder))
            for name in wanted:
                words = [word.format(data=arguments.data, utk=utk) for word in RUNS[name]]
                measure(name, ["eval", *words])
    if arguments.bundle:
        measure("bench", ["bench", str(arguments.bundle), "--runs", "1000"])
    tables.main()


def strangers(faces: Path, folder: Path) -> Path:
    """A folder of those face files whose names tell age, sex and ethnicity."""
    target = folder / "utk"
    target.mkdir()
    for file in sorted(faces.glob("utk-*.parquet")):
        (target / file.name).symlink_to(file.resolve())
    return target


def measure(name: str, words: list[str]) -> None:
    """Run one command and keep its JSON, on one line a number so that changes can be read."""
    print(f"{name}: toolkit {' '.join(words)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "toolkit", *words, "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed with exit code {done.returncode}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(compact(json.loads(done.stdout)) + "\n")


def compact(document: object, indent: str = "") -> str:
    """JSON with one line a key, but lists of numbers on one line: readable in a diff."""
    if isinstance(document, dict) and document:
        deeper = indent + " "
        rows = [f"{deeper}{json.dumps(key)}: {compact(value, deeper)}" for key, value in document.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    return json.dumps(document)


if __name__ == "__main__":
    main()
