"""Is it slower than before? Two sets of raw samples, stage by stage, with a test and an interval.

Samples of one run are not independent of each other (clock, caches and neighbours change slowly), which makes the test
too sure of itself; so a regression also needs a ratio whose whole interval lies beyond what nobody would mind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import ArtifactError, InputError, MissingError

ALPHA = 0.01  # for all stages of one comparison together (Bonferroni)
RESAMPLES = 2000
Samples = Mapping[str, Sequence[float]]


def read_baseline(path: Path) -> dict[str, Any]:
    """What `toolkit bench --raw` wrote. Raises InputError or ArtifactError."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        sound = document["schema_version"] == 1 and all(
            len(samples) >= 2 and all(sample > 0 for sample in samples) for samples in document["samples_ms"].values()
        )
    except OSError as error:
        raise InputError(f"{path} cannot be read", got=error.strerror) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} is no baseline", do="write one with `toolkit bench BUNDLE --raw FILE`") from error
    if not sound or not isinstance(document.get("device"), dict):
        raise ArtifactError(f"{path} is no baseline", do="write one with `toolkit bench BUNDLE --raw FILE`")
    return document


def compare(before: Samples, after: Samples, tolerance: float, seed: int = 0) -> list[dict[str, Any]]:
    """One row a stage that both have: ratio of medians (after / before) with its 95% bootstrap interval, p, verdict.

    p: Mann–Whitney U, one-sided, "after is slower". Slower: p below ALPHA over the number of stages, and an interval
    above 1 + tolerance. Raises MissingError without scipy.
    """
    try:
        from scipy.stats import mannwhitneyu
    except ImportError as error:
        raise MissingError("comparing needs scipy", do="run `pip install 'hyperverify[eval]'`") from error
    stages = [stage for stage in before if stage in after]
    rng, rows = np.random.default_rng(seed), []
    for stage in stages:
        x, y = np.asarray(before[stage], float), np.asarray(after[stage], float)
        p = float(mannwhitneyu(y, x, alternative="greater").pvalue)
        low, high = _ratio_interval(x, y, rng)
        slower = p < ALPHA / len(stages) and low > 1 + tolerance
        rows.append({"stage": stage, "ratio": float(np.median(y) / np.median(x)), "low": low, "high": high, "p": p,
                     "samples": [len(x), len(y)], "slower": slower})  # fmt: skip
    return rows


def _ratio_interval(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Percentile bootstrap of median(y) / median(x)."""
    medians = [np.median(rng.choice(s, (RESAMPLES, len(s))), axis=1) for s in (x, y)]
    low, high = np.percentile(medians[1] / medians[0], [2.5, 97.5])
    return float(low), float(high)
