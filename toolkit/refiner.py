"""What `toolkit enroll --refine` and `toolkit eval household --refine` share: from a bank's file to a refined θ."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from models.generator import Generator
    from models.refine import Refinement

    Refiner = Callable[[np.ndarray, np.ndarray], Refinement]  # photos [K, H, W, 3] and templates [K, D]

BankFile = Annotated[
    Path | None,
    typer.Option("--refine", help="Refine each verifier against this bank of strangers (`toolkit bank build`)."),
]


def load_refiner(h: Generator, bank: Path | None) -> Refiner | None:
    """None without a bank. Raises MissingError (torch or pyarrow), InputError and ArtifactError (bank)."""
    if bank is None:
        return None
    missing = [name for name in ("torch", "pyarrow", "ai_edge_litert") if find_spec(name) is None]
    if missing:
        raise MissingError(f"refinement needs {' and '.join(missing)}", do="run `pip install 'hyperverify[refine]'`")
    from benchmarks.scoring import FileScorer
    from models.bank import open_bank
    from models.refine import RefineConfig, refine

    strangers = open_bank(bank, h.info.spec, h.info.backbone, h.info.backbone_sha256)
    scorer = FileScorer(h.info.spec, "int8", "litert")  # what devices run
    return lambda pixels, templates: refine(h, pixels, templates, strangers, scorer.scores, RefineConfig())
