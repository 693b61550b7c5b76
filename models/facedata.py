"""Aligned face crops with what their set says of them, and a cache of what the backbone says of them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from device.alignment import shrink
from models.backbone import Backbone, JoinedBackbone, joined
from models.facestream import Face, stream_faces
from models.files import sha256_of
from models.spec import WHOLE, Framing
from toolkit.atomic import write_atomically
from toolkit.progress import track

BLOCK = 32  # crops decoded for the backbone at once


@dataclass(frozen=True)
class FaceFile:
    """One source of crops in memory. `images` stays encoded until `crops` decodes it."""

    path: Path
    images: list[bytes]
    identities: list[str]
    names: list[str]
    splits: list[str]
    digest: str  # of the source, the cache key

    def __len__(self) -> int:
        return len(self.images)

    def some(self, rows: list[int]) -> FaceFile:
        columns = ("images", "identities", "names", "splits")
        chosen: dict[str, Any] = {name: [getattr(self, name)[i] for i in rows] for name in columns}
        return replace(self, **chosen)

    def crops(self, framing: Framing = WHOLE) -> np.ndarray:
        """All crops decoded and framed, uint8 RGB [N, side_px, side_px, 3]."""
        faces = (Face(data, "", name) for data, name in zip(self.images, self.names, strict=True))
        return decoded(faces, len(self), self.path, framing)


def decoded(faces: Iterable[Face], count: int, origin: Path, framing: Framing) -> np.ndarray:
    """What `framing` shows of crops, uint8 RGB [count, side_px, side_px, 3]; area-averaged. Raises InputError."""
    out = np.empty((count, framing.side_px, framing.side_px, 3), np.uint8)
    for row, face in enumerate(faces):
        out[row] = shrink(face.crop(origin), framing)
    return out


def read_faces(path: Path) -> FaceFile:
    """All of one source (see `facestream`). Raises InputError or MissingError with what to do."""
    faces = list(stream_faces(path))
    identities, names, splits = ([getattr(face, name) for face in faces] for name in ("identity", "name", "split"))
    return FaceFile(path, [face.image for face in faces], identities, names, splits, digest_of(path))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder's photos with their names."""
    if path.is_file():
        return sha256_of(path)
    digest = hashlib.sha256()
    for face in stream_faces(path):
        digest.update(f"{Path(face.identity) / face.name}\0{len(face.image)}\0".encode() + face.image)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where what is computed of public data sets is kept: `HYPERVERIFY_CACHE`, else `hyperverify` in the XDG cache."""
    if custom := os.environ.get("HYPERVERIFY_CACHE"):
        return Path(custom)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyperverify"


def templates_of(faces: FaceFile, backbone: Backbone, cache: Path | None = None) -> np.ndarray:
    """Unit templates float32 [N, dim] of every crop, read from or written to the cache folder (0600)."""
    return joined([np.asarray(member) for member in stored_templates(faces.path, backbone, cache, faces.digest)])


def face_blocks(
    source: Path, backbone: Backbone, wanted: Callable[[Face], bool], size: int = 512
) -> Iterator[tuple[list[Face], np.ndarray]]:
    """The wanted faces of one source, still encoded, with their templates [n, dim]: at most `size` in memory."""
    faces, start = stream_faces(source), 0
    stored: list[np.ndarray] = []
    while block := list(islice(faces, size)):
        if rows := [i for i, face in enumerate(block) if wanted(face)]:
            stored = stored or stored_templates(source, backbone)
            yield [block[i] for i in rows], joined([member[start : start + len(block)][rows] for member in stored])
        start += len(block)


def stored_templates(source: Path, backbone: Backbone, cache: Path | None = None, digest: str = "") -> list[np.ndarray]:
    """Templates of one source, one mapped array [N, dim] for each member of the backbone.

    Those not in the cache yet are computed with one block of faces in memory; stopped, the next call goes on.
    """
    digest = digest or digest_of(source)
    members = backbone.members if isinstance(backbone, JoinedBackbone) else (backbone,)
    folder = cache_folder() if cache is None else cache
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{member.name}-{member.sha256[:12]}-{digest[:24]}.npy" for member in members]
    for member, file in zip(members, files, strict=True):
        if not file.is_file():
            _compute(source, member, file)
    return [np.load(file, mmap_mode="r") for file in files]


def _compute(source: Path, backbone: Backbone, file: Path) -> None:
    """Append to FILE.part, so that days of work survive a kill, then write the whole as `file`."""
    part = file.with_suffix(".part")
    with locked(part) as stream:
        if file.is_file():  # another process had the lock before
            return
        row_bytes = backbone.dim * 4
        done = stream.seek(0, os.SEEK_END) // row_bytes
        stream.truncate(done * row_bytes)
        stream.seek(done * row_bytes)
        faces = islice(stream_faces(source), done, None)
        crops = (face.crop(source) for face in track(faces, f"{backbone.name} templates of {source.name}"))
        while block := list(islice(crops, BLOCK)):
            stream.write(np.asarray(backbone.embed(np.stack(block)), "<f4").tobytes())
            stream.flush()
            done += len(block)
        stream.seek(0)
        header = {"descr": "<f4", "fortran_order": False, "shape": (done, backbone.dim)}

        def copy(out: IO[bytes]) -> None:
            np.lib.format.write_array_header_1_0(out, header)
            shutil.copyfileobj(stream, out)

        write_atomically(file, copy)
        part.unlink()


@contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """The file at `path` (0600), made if need be, for this process alone; another one waits."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream
