"""Encoded faces one after another, out of sets of any size: one face is in memory at a time, or one block of them.

Parquet with the columns `image`, `identity` (empty = unknown) and, where known, `split` and `file`; MXNet's RecordIO
`.rec`; WebDataset's `.tar` shards; a folder with one sub-folder per identity; InsightFace's `.bin`, which names nobody.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.image import IMAGE_SUFFIXES, decode_image
from models.packs import read_bin, read_rec
from models.spec import CROP_PX
from toolkit.errors import InputError, MissingError, UsageError

PACKED = (".parquet", ".rec", ".tar")  # what a folder may hold many of
BATCH = 256  # rows of a Parquet file at once
_STRINGS = ("string", "large_string")
_TYPES = {"image": ("binary", "large_binary"), "identity": _STRINGS, "file": _STRINGS, "split": _STRINGS}


@dataclass(frozen=True)
class Face:
    """One encoded crop and what its set says of it."""

    image: bytes
    identity: str  # empty = unknown
    name: str
    split: str = ""  # empty = the set has none

    def crop(self, origin: Path) -> np.ndarray:
        """Decoded, uint8 RGB [112, 112, 3]. Raises InputError for anything but an aligned crop."""
        crop = decode_image(self.image, f"{origin}: {self.name}")
        if crop.shape != (CROP_PX, CROP_PX, 3):
            raise InputError(
                f"{origin}: {self.name} is not an aligned crop",
                got=f"{crop.shape[1]}×{crop.shape[0]}",
                expected=f"{CROP_PX}×{CROP_PX}",
            )
        return crop


SPLITS = ("train", "val")


@dataclass(frozen=True)
class Split:
    """Which faces judge a run: those of the split `val`; in sets without splits, this share of the people."""

    share: float

    def of(self, face: Face) -> str:
        if face.split or not self.share or not face.identity:
            return face.split or "train"
        place = int.from_bytes(hashlib.sha256(face.identity.encode()).digest()[:8], "big") / 2**64
        return "val" if place < self.share else "train"


def stream_faces(path: Path) -> Iterator[Face]:
    """Every face of one source, in an order that never changes. Raises InputError or MissingError with what to do."""
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise InputError(f"no such file or folder: {path}", do="name a file of crops or a folder of them")
    suffix = path.suffix.lower()
    if suffix == ".rec":
        return (Face(image, label, f"row {i}") for i, (image, label) in enumerate(read_rec(path)))
    if suffix == ".bin":
        return (Face(image, "", f"row {i}") for i, image in enumerate(read_bin(path)[0]))
    return _tar(path) if suffix == ".tar" else _parquet(path)


def face_files(paths: list[Path]) -> list[Path]:
    """Expand folders of packed files; other paths stay as they are. Sorted, so that runs are repeatable."""
    found: list[Path] = []
    for path in paths:
        inside = packed_files(path) if path.is_dir() else []
        found.extend(inside or [path])
    if not found:
        raise UsageError("no face files given", do="name files of crops or folders of them")
    return found


def own_numbers(paths: list[Path]) -> dict[Path, str]:
    """What tells numbers of one set from another's, by file of `face_files`: nothing where there is one set.

    People's names mean the same person in every set; a number, as RecordIO has them, does in its own set alone.
    """
    several = len(paths) > 1
    return {file: f"{i}:" if several else "" for i, path in enumerate(paths) for file in face_files([path])}


def told_apart(identity: str, number_prefix: str) -> str:
    """The name of somebody of a set whose numbers get this prefix."""
    return number_prefix + identity if identity.isdecimal() else identity


def packed_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PACKED and p.is_file())


def _folder(path: Path) -> Iterator[Face]:
    """Sub-folder by sub-folder, so that not even all names are in memory."""
    empty = True
    for person in sorted(entry.name for entry in os.scandir(path) if entry.is_dir()):
        for photo in sorted((path / person).iterdir()):
            if photo.suffix.lower() in IMAGE_SUFFIXES:
                empty = False
                yield Face(photo.read_bytes(), person, photo.name)
    if empty:
        raise InputError(f"{path} holds no identity/photo files", expected="one sub-folder per identity")


def _parquet(path: Path) -> Iterator[Face]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingError("reading Parquet needs pyarrow", do="run `pip install 'hyperverify[eval]'`") from error
    try:
        # Buffered, or a whole row group comes into memory at once.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            schema = file.schema_arrow
            _check_columns(path, schema)
            columns = [name for name in _TYPES if name in schema.names]
            row = 0
            for batch in file.iter_batches(BATCH, columns=columns):
                values = {name: batch.column(name).to_pylist() for name in columns}
                names = values.get("file") or [f"row {row + i}" for i in range(len(batch))]
                splits = values.get("split") or [""] * len(batch)
                for image, person, name, split in zip(values["image"], values["identity"], names, splits, strict=True):
                    yield Face(image or b"", person or "", name or "", split or "")
                row += len(batch)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a readable Parquet file", got=reason) from error


def _check_columns(path: Path, schema: Any) -> None:
    """Raises InputError for columns that are missing or would be misread."""
    if missing := {"image", "identity"} - set(schema.names):
        what = f"{path} lacks the column {', '.join(sorted(missing))}"
        raise InputError(what, got=schema.names, expected="image, identity and optionally split and file")
    for name, types in _TYPES.items():
        if name in schema.names and str(found := schema.field(name).type) not in types:
            raise InputError(f"{path}: the column {name} has another type", got=found, expected=types[0])


def _tar(path: Path) -> Iterator[Face]:
    """Samples of a WebDataset shard: members in a row that differ after the first dot of their name only.

    The image's identity is the text of `.cls`, or `identity` or `label` of `.json`, which may give a `split` as well.
    Nothing is unpacked.
    """
    sample: dict[str, bytes] = {}
    key, empty = "", True
    try:
        with tarfile.open(path, "r|") as shard:
            for member in shard:
                shard.members.clear()  # type: ignore[attr-defined]  # it would grow with the shard
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                if f"{folder}/{stem}" != key:
                    for face in _sample(path, key, sample):
                        empty = False
                        yield face
                    key, sample = f"{folder}/{stem}", {}
                content = shard.extractfile(member)
                sample[f".{suffix.lower()}"] = content.read() if content else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{path} is not a whole tar file", got=error, do="copy it again") from error
    for face in _sample(path, key, sample):
        empty = False
        yield face
    if empty:
        raise InputError(f"{path} holds no images", expected="WebDataset samples: NAME.jpg with NAME.cls or NAME.json")


def _sample(path: Path, key: str, sample: dict[str, bytes]) -> Iterator[Face]:
    """The face of one sample, if it has an image."""
    image = next((sample[s] for s in IMAGE_SUFFIXES if s in sample), None)
    if image is None:
        return
    try:
        about = json.loads(sample.get(".json", b"{}"))
        identity = sample[".cls"].decode().strip() if ".cls" in sample else about.get("identity", about.get("label"))
        split = about.get("split") or ""
    except (ValueError, AttributeError, RecursionError) as error:
        what = f"{path}: the labels of {key.lstrip('/')} cannot be read"
        raise InputError(what, got=error, expected="text in .cls or an object in .json") from error
    yield Face(image, "" if identity is None else str(identity), key.lstrip("/"), str(split))
