"""Aligned face crops from Parquet files, folders or packs, and a cache of what the backbone says of them.

A Parquet file has the columns `image` (encoded bytes), `identity` (empty = unknown) and, where known, `split` and
`file`. A folder has one sub-folder per identity. `.rec` and `.bin` are InsightFace's packs. Crops are 112×112 RGB,
aligned to the ArcFace template.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.alignment import CROP_PX, shrink
from device.image import IMAGE_SUFFIXES, decode_image
from models.backbone import Backbone, JoinedBackbone, joined
from models.files import sha256_of
from models.packs import read_bin, read_rec
from toolkit.atomic import write_atomically
from toolkit.errors import InputError, MissingError, UsageError
from toolkit.progress import track


@dataclass(frozen=True)
class FaceFile:
    """One source of crops. `images` stays encoded until `crops` decodes it."""

    path: Path
    images: list[bytes]
    identities: list[str]
    names: list[str]
    splits: list[str]
    digest: str  # of the source, the cache key

    def __len__(self) -> int:
        return len(self.images)

    def crops(self, side_px: int = CROP_PX) -> np.ndarray:
        """All crops decoded, uint8 RGB [N, side_px, side_px, 3]; area-averaged when smaller than stored."""
        out = np.empty((len(self), side_px, side_px, 3), np.uint8)
        for row, crop in enumerate(self._decoded()):
            out[row] = shrink(crop, side_px)
        return out

    def _decoded(self) -> Iterator[np.ndarray]:
        for data, name in zip(self.images, self.names, strict=True):
            crop = decode_image(data, f"{self.path}: {name}")
            if crop.shape != (CROP_PX, CROP_PX, 3):
                raise InputError(
                    f"{self.path}: {name} is not an aligned crop",
                    got=f"{crop.shape[1]}×{crop.shape[0]}",
                    expected=f"{CROP_PX}×{CROP_PX}",
                )
            yield crop


def read_faces(path: Path) -> FaceFile:
    """Read a Parquet file or an identity/photo folder. Raises InputError or MissingError with what to do."""
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise InputError(f"no such file or folder: {path}", do="name a Parquet file or a folder of crops")
    if path.suffix.lower() in (".bin", ".rec"):
        return _read_pack(path)
    table = _read_table(path)
    missing = {"image", "identity"} - set(table.column_names)
    if missing:
        raise InputError(
            f"{path} lacks the column {', '.join(sorted(missing))}",
            got=table.column_names,
            expected="image, identity and optionally split and file",
        )
    _check_types(path, table)
    count = table.num_rows

    def column(name: str, default: str) -> list[str]:
        values = table[name].to_pylist() if name in table.column_names else [default] * count
        return [value or default for value in values]

    names = column("file", "") if "file" in table.column_names else [f"row {i}" for i in range(count)]
    return FaceFile(
        path, table["image"].to_pylist(), column("identity", ""), names, column("split", ""), sha256_of(path)
    )


def _read_pack(path: Path) -> FaceFile:
    """InsightFace's packs. A `.bin` tells pairs and no identities: see benchmarks/protocols.py."""
    if path.suffix.lower() == ".rec":
        images, people = read_rec(path)
    else:
        images, people = read_bin(path)[0], []
    count = len(images)
    names = [f"row {i}" for i in range(count)]
    return FaceFile(path, images, people or [""] * count, names, [""] * count, sha256_of(path))


def _check_types(path: Path, table: Any) -> None:
    """Raises InputError for columns that would be misread."""
    wanted = {"image": ("binary", "large_binary"), "identity": (strings := ("string", "large_string"))}
    for name, types in {**wanted, "file": strings, "split": strings}.items():
        if name in table.column_names and str(table.schema.field(name).type) not in types:
            found = table.schema.field(name).type
            raise InputError(f"{path}: the column {name} has another type", got=found, expected=types[0])


def _read_table(path: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingError("reading Parquet needs pyarrow", do="run `pip install 'hyperverify[eval]'`") from error
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a readable Parquet file", got=reason) from error


def _read_folder(path: Path) -> FaceFile:
    files = sorted(p for p in path.glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(f"{path} holds no identity/photo files", expected="one sub-folder per identity")
    images = [p.read_bytes() for p in files]
    digest = hashlib.sha256()
    for file, data in zip(files, images, strict=True):
        digest.update(f"{file.relative_to(path)}\0{len(data)}\0".encode() + data)
    names = [p.name for p in files]
    return FaceFile(path, images, [p.parent.name for p in files], names, [""] * len(files), digest.hexdigest())


def face_files(paths: list[Path]) -> list[Path]:
    """Expand folders of Parquet files; other paths stay as they are. Sorted, so that runs are repeatable."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.parquet")) if path.is_dir() else []
        found.extend(inside or [path])
    if not found:
        raise UsageError("no face files given", do="name Parquet files or folders")
    return found


def cache_folder() -> Path:
    """Where templates of public data sets are kept: `HYPERVERIFY_CACHE`, else `hyperverify` in the XDG cache."""
    if custom := os.environ.get("HYPERVERIFY_CACHE"):
        return Path(custom)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyperverify"


def templates_of(faces: FaceFile, backbone: Backbone, cache: Path | None = None) -> np.ndarray:
    """Unit templates float32 [N, dim] of every crop, read from or written to the cache folder (0600)."""
    if isinstance(backbone, JoinedBackbone):
        return joined([templates_of(faces, member, cache) for member in backbone.members])
    folder = cache_folder() if cache is None else cache
    file = folder / f"{backbone.name}-{backbone.sha256[:12]}-{faces.digest[:24]}.npy"
    if file.is_file():
        stored: np.ndarray = np.load(file)
        if stored.shape == (len(faces), backbone.dim):
            return stored
    crops = faces.crops()
    block = 32
    starts = range(0, len(crops), block)
    rows = [backbone.embed(crops[i : i + block]) for i in track(starts, f"templates of {faces.path.name}")]
    templates = np.concatenate(rows) if rows else np.zeros((0, backbone.dim), np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda stream: np.save(stream, templates))
    return templates
