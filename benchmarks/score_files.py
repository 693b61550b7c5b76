"""Scores of any system, from files larger than memory: Parquet or CSV with the columns `score` and `mated`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metrics import NAMED_FMRS, Rate
from benchmarks.score_counts import ScoreCounts
from toolkit.errors import InputError, MissingError
from toolkit.progress import track

BATCH_ROWS = 4_000_000  # bounds the memory


def count_scores(paths: list[Path]) -> ScoreCounts:
    """All scores of the files. Raises InputError (unreadable, another column, nothing in it) or MissingError."""
    total: ScoreCounts | None = None
    for path in paths:
        for score, mated in track(_batches(path), f"scores of {path.name}"):
            part = ScoreCounts.streamed(score, mated)
            total = part if total is None else total + part
    if total is None or not total.genuine_total or not total.impostor_total:
        raise InputError("error rates need mated and other comparisons", expected="both true and false in `mated`")
    return total


def _batches(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(score float64 [N], mated bool [N]) of about BATCH_ROWS rows."""
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.dataset as ds
    except ImportError as error:
        raise MissingError("reading scores needs pyarrow", do="run `pip install 'hyperverify[eval]'`") from error
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    kind = {".parquet": "parquet", ".csv": "csv"}.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} is no score file", expected=".parquet or .csv")
    kept: list[Any] = []
    try:
        for batch in ds.dataset(str(path), format=kind).to_batches(columns=["score", "mated"], batch_readahead=2):
            kept.append(batch)
            if sum(map(len, kept)) >= BATCH_ROWS:
                yield _columns(pa.Table.from_batches(kept), pc, pa)
                kept = []
        if any(map(len, kept)):
            yield _columns(pa.Table.from_batches(kept), pc, pa)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a readable score file", got=reason, expected="columns score, mated") from error


def _columns(table: Any, pc: Any, pa: Any) -> tuple[np.ndarray, np.ndarray]:
    """`mated` may be written as true/false or as 1/0; a missing value is refused."""
    if table["score"].null_count or table["mated"].null_count:
        raise ValueError("a row lacks its score or mated")
    mated = pc.cast(table["mated"], pa.bool_())
    return pc.cast(table["score"], pa.float64()).to_numpy(), mated.to_numpy().astype(bool)


def summarise(counts: ScoreCounts) -> dict[str, Any]:
    """Every measure that needs no identities."""
    result: dict[str, Any] = {"genuine_pairs": counts.genuine_total, "impostor_pairs": counts.impostor_total,
                              "eer": counts.equal_error_rate(), **counts.separation(), "at_fmr": {}}  # fmt: skip
    for name, fmr in NAMED_FMRS.items():
        if fmr * counts.impostor_total >= 1:
            threshold = counts.threshold_at_fmr(fmr)
            missed, false = counts.errors_at(threshold)
            rates = {"fnmr": Rate.of(missed, counts.genuine_total), "fmr": Rate.of(false, counts.impostor_total)}
            result["at_fmr"][name] = {"threshold": threshold, **{side: asdict(rate) for side, rate in rates.items()}}
    return result | {"curves": counts.curves()}
