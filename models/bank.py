"""A bank of other people's faces in one file: the strangers that personal refinement learns people from.

An Arrow IPC file with one row a face: `pixels` (the aligned crop at the verifier's input size, uint8 RGB), `template`
(the generator's backbone's, float32 of unit length) and `identity` (a number, -1 where nobody knows; names are not
kept). The schema's metadata says for which input size, part of the face and backbone it was made. Pixels
are memory-mapped, so that a large bank costs the memory of the faces in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from models.files import sha256_of_arrays
from models.spec import WHOLE, VerifierSpec
from toolkit.atomic import write_atomically
from toolkit.errors import ArtifactError, InputError, MissingError

SCHEMA_VERSION = 1
METADATA = b"hyperverify_bank"
BLOCK = 1024  # faces a record batch


@dataclass(frozen=True)
class BankFaces:
    """Some faces on their way into a bank: uint8 [N, H, W, 3], float32 [N, D], and a name each, empty = unknown."""

    pixels: np.ndarray
    templates: np.ndarray
    people: list[str]


@dataclass(frozen=True)
class Bank:
    """An opened bank of N faces. `templates` [N, D] and `identity` [N] are in memory, `pixels` on disk."""

    path: Path
    templates: np.ndarray
    identity: np.ndarray
    blocks: list[np.ndarray]  # uint8 [BLOCK, H, W, 3] each, the last one may be shorter; views of the mapped file

    def __len__(self) -> int:
        return len(self.templates)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Crops uint8 RGB [len(rows), H, W, 3]."""
        return np.stack([self.blocks[row // BLOCK][row % BLOCK] for row in rows.tolist()])

    @property
    def sha256(self) -> str:
        """Of templates and identities: which bank this is, without reading every pixel."""
        return sha256_of_arrays(self.templates, self.identity)


def write_bank(
    path: Path, blocks: Iterable[BankFaces], spec: VerifierSpec, backbone: str, backbone_sha256: str
) -> tuple[int, int]:
    """Write a bank (0600) in one piece, or not at all; returns how many faces and known people it has.

    Raises InputError when no face came, MissingError (pyarrow, disk full), UsageError (not writable).
    """
    pa = _arrow()
    numbers: dict[str, int] = {}
    faces = 0

    def write(stream: IO[bytes]) -> None:
        nonlocal faces
        schema = None
        for block in _even(blocks):
            identity = [numbers.setdefault(name, len(numbers)) if name else -1 for name in block.people]
            columns = {
                "pixels": _rows(pa.array(block.pixels.reshape(-1)), block.pixels[0].size),
                "template": _rows(pa.array(block.templates.reshape(-1)), block.templates.shape[1]),
                "identity": pa.array(identity, pa.int32()),
            }
            batch = pa.record_batch(columns)
            if schema is None:
                meta = {"schema_version": SCHEMA_VERSION, "input_px": spec.input_px, "region": spec.region,
                        "backbone": backbone, "backbone_sha256": backbone_sha256}  # fmt: skip
                schema = batch.schema.with_metadata({METADATA: json.dumps(meta, sort_keys=True)})
                writer = pa.ipc.new_file(stream, schema)
            writer.write_batch(batch.cast(schema))
            faces += len(block.people)
        if schema is None:
            raise InputError("no face could be used for the bank", do="name photos that show faces, or Parquet files")
        writer.close()

    write_atomically(path, write)
    return faces, len(numbers)


def open_bank(path: Path, spec: VerifierSpec, backbone: str, backbone_sha256: str) -> Bank:
    """Raises InputError (no such file), MissingError (pyarrow), ArtifactError (damaged, or made for something else)."""
    pa = _arrow()
    if not path.is_file():
        raise InputError(f"no such bank: {path}", do="make one with `toolkit bank build`")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        meta = json.loads((reader.schema.metadata or {})[METADATA])
        _check_made_for(path, meta, spec, backbone, backbone_sha256)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        for batch in batches:
            batch.validate(full=True)
        bank = _bank(path, batches, spec.input_px)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path} is not a bank, or a damaged one",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            do="make one with `toolkit bank build`",
        ) from error
    return bank


def _bank(path: Path, batches: list[Any], side_px: int) -> Bank:
    """Raises ValueError or KeyError for columns that are not those of a bank."""
    if any(len(batch) != BLOCK for batch in batches[:-1]) or not batches:
        raise ValueError("its blocks are uneven")
    pixels = [_values(batch, "pixels", np.uint8).reshape(len(batch), side_px, side_px, 3) for batch in batches]
    templates = np.concatenate([_values(b, "template", np.float32).reshape(len(b), -1) for b in batches])
    if not np.isfinite(templates).all():
        raise ValueError("a template is not finite")
    identity = np.concatenate([np.asarray(batch.column("identity"), np.int32) for batch in batches])
    return Bank(path, templates, identity, pixels)


def _check_made_for(path: Path, meta: dict[str, Any], spec: VerifierSpec, backbone: str, sha256: str) -> None:
    if meta["schema_version"] != SCHEMA_VERSION:
        raise ArtifactError(f"{path} has another schema", got=meta["schema_version"], expected=SCHEMA_VERSION,
                            do="build the bank again")  # fmt: skip
    meta = {"region": list(WHOLE.region), **meta}  # banks from before there were regions
    wanted = {"input_px": spec.input_px, "region": list(spec.region), "backbone": backbone, "backbone_sha256": sha256}
    names = {
        "input_px": "input size",
        "region": "part of the face",
        "backbone": "backbone",
        "backbone_sha256": "backbone file",
    }
    for key, expected in wanted.items():
        if meta[key] != expected:
            raise ArtifactError(f"{path} was made for another {names[key]}", got=meta[key], expected=expected,
                                do="build the bank again with this generator")  # fmt: skip


def _even(blocks: Iterable[BankFaces]) -> Iterator[BankFaces]:
    """The same faces in blocks of BLOCK, so that a row's place follows from its number."""
    pixels: list[np.ndarray] = []
    templates: list[np.ndarray] = []
    people: list[str] = []
    for block in blocks:
        pixels += list(block.pixels)
        templates += list(block.templates)
        people += block.people
        while len(people) >= BLOCK:
            yield BankFaces(np.stack(pixels[:BLOCK]), np.stack(templates[:BLOCK]), people[:BLOCK])
            del pixels[:BLOCK], templates[:BLOCK], people[:BLOCK]
    if people:
        yield BankFaces(np.stack(pixels), np.stack(templates), people)


def _rows(values: Any, size: int) -> Any:
    return _arrow().FixedSizeListArray.from_arrays(values, size)


def _values(batch: Any, name: str, kind: Any) -> np.ndarray:
    """The flat values of a fixed-size list column, without a copy."""
    values = np.asarray(batch.column(name).flatten())
    if values.dtype != kind:
        raise ValueError(f"the column {name} holds {values.dtype}")
    return values


def _arrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.ipc
    except ImportError as error:
        raise MissingError("a bank needs pyarrow", do="run `pip install 'hyperverify[refine]'`") from error
    return pa
