"""Bundles of many people from their templates, to a folder or a tar stream; memory does not grow with their number.

Each bundle appears whole or not at all, so a run that was stopped goes on where it ended. The detector, the same for
everyone, is stored once and linked.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

import numpy as np

from export.bundle import BundleContent, bundle_manifest
from export.manifest import DETECTOR, MANIFEST, MODELS, check_name, manifest_bytes
from export.stencil import Stencil, file_tensors
from models.generator import Generator
from toolkit.atomic import write_atomically
from toolkit.errors import InputError, UsageError

BLOCK = 64  # people whose weights are generated at once
BLOCK_BYTES = 512  # of a tar file


class Sink(AbstractContextManager["Sink"]):
    """Where bundles go."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether this person's bundle is there already, whole."""

    @abstractmethod
    def put(self, name: str, files: dict[str, bytes]) -> None:
        """Store one bundle; `files` ends with its manifest."""


class FolderSink(Sink):
    """One folder NAME.hvb a person. Raises UsageError when it cannot be written."""

    def __init__(self, path: Path, detector: bytes):
        self._path, self._detector = path, path / DETECTOR
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Every bundle there links to it: what is the same stays, and what is not gets a file of its own.
            if not self._detector.is_file() or self._detector.read_bytes() != detector:
                write_atomically(self._detector, detector)
        except OSError as error:
            raise UsageError(f"cannot write to {path}", got=error.strerror, do="choose a writable folder") from error

    def has(self, name: str) -> bool:
        return (self._path / f"{name}.hvb" / MANIFEST).is_file()

    def put(self, name: str, files: dict[str, bytes]) -> None:
        part = self._path / f".{name}.hvb.part"
        shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
        part.mkdir(mode=0o700)
        try:
            os.link(self._detector, part / DETECTOR)
        except OSError:  # a file system without links
            _write(part / DETECTOR, self._detector.read_bytes())
        for file, data in files.items():
            _write(part / file, data)
        part.rename(self._path / f"{name}.hvb")

    def __exit__(self, *_: object) -> None:
        os.sync()


class TarSink(Sink):
    """The same folders as members of a tar file, without clock, user or host. Give `path` or `stream`."""

    def __init__(self, detector: bytes, path: Path | None = None, stream: IO[bytes] | None = None):
        self._done: set[str] = set()
        if path is not None:
            try:
                stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
            except OSError as error:
                raise UsageError(f"cannot write {path}", got=error.strerror, do="choose a writable file") from error
            self._done, end = _complete(path)
            os.fchmod(stream.fileno(), 0o600)  # of a tar that was copied back, too
            stream.truncate(end)
            stream.seek(end)
        assert stream is not None
        self._own = stream if path is not None else None
        mode: Literal["w:", "w|"] = "w:" if path is not None else "w|"
        self._tar = tarfile.open(fileobj=stream, mode=mode, format=tarfile.PAX_FORMAT)  # noqa: SIM115  (see __exit__)
        if not (path is not None and end):
            self._add(DETECTOR, detector)

    def has(self, name: str) -> bool:
        return name in self._done

    def put(self, name: str, files: dict[str, bytes]) -> None:
        link = _member(f"{name}.hvb/{DETECTOR}", 0)
        link.type, link.linkname = tarfile.LNKTYPE, DETECTOR
        self._tar.addfile(link)
        for file, data in files.items():
            self._add(f"{name}.hvb/{file}", data)
        self._tar.members = []  # type: ignore[attr-defined]  # it would remember all of them

    def _add(self, name: str, data: bytes) -> None:
        self._tar.addfile(_member(name, len(data)), io.BytesIO(data))

    def __exit__(self, kind: object, *_: object) -> None:
        self._tar.close()
        if self._own is not None:
            self._own.flush()
            os.fsync(self._own.fileno())
            self._own.close()


def _complete(path: Path) -> tuple[set[str], int]:
    """People whose bundles are whole in a tar file, perhaps cut off, and where the last of them ends.

    Raises InputError for a file that is something else.
    """
    done, end, size = set(), 0, path.stat().st_size
    if size and not _begins_as_ours(path):
        raise InputError(f"{path} is no tar file of bundles", do="name another file")
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                stop = member.offset_data + -(-member.size // BLOCK_BYTES) * BLOCK_BYTES
                if member.name == DETECTOR and not end and stop <= size:
                    end = stop
                if member.name.endswith(f".hvb/{MANIFEST}") and stop <= size:
                    done.add(member.name.removesuffix(f".hvb/{MANIFEST}"))
                    end = stop
    except tarfile.TarError:
        pass  # cut off: what is whole counts
    return done, end


def _begins_as_ours(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(DETECTOR) + 1) == f"{DETECTOR}\0".encode()


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(data)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


@dataclass(frozen=True)
class Batch:
    """What all bundles of a run share."""

    h: Generator
    content: BundleContent  # of nobody yet: name and θ are filled in
    formats: tuple[tuple[str, str], ...]  # kind and precision, keys of MODELS

    def write(self, names: Sequence[str], templates: np.ndarray, sink: Sink) -> Iterator[bool]:
        """One step a person: whether the bundle was written now, or there before.

        templates float32 [N, D], unit length, may be a memory map. Raises UsageError before anything is written for
        names that are no file names or not unique, and templates of another shape; ArtifactError for unusable weights.
        """
        check_people(names, templates, self.h.template_dim)
        stencils = [Stencil(self.content.spec, *form) for form in self.formats]
        for start in range(0, len(names), BLOCK):
            block = range(start, min(start + BLOCK, len(names)))
            missing = [row for row in block if not sink.has(names[row])]
            if missing:
                rows = _unit_rows(templates, missing)
                thetas = dict(zip(missing, self.h.weights(rows), strict=True))
            for row in block:
                if row in missing:
                    sink.put(names[row], self._files(names[row], thetas[row], stencils))
                yield row in missing

    def _files(self, name: str, theta: np.ndarray, stencils: list[Stencil]) -> dict[str, bytes]:
        spec = self.content.spec
        tensors = {p: file_tensors(spec, theta, p) for p in sorted({stencil.precision for stencil in stencils})}
        files = {MODELS[s.kind, s.precision]: s.fill(tensors[s.precision]) for s in stencils}
        content = replace(self.content, name=name, theta=theta)
        manifest = bundle_manifest(content, {**files, DETECTOR: content.detector})
        return {**files, MANIFEST: manifest_bytes(manifest)}


def check_people(names: Sequence[str], templates: np.ndarray, dim: int) -> None:
    """Raises UsageError."""
    if templates.ndim != 2 or templates.shape[1] != dim or templates.dtype != np.float32:
        got = f"{templates.dtype} {templates.shape}"
        raise UsageError("these templates do not fit the generator", got=got, expected=f"float32 [N, {dim}]")
    if len(names) != len(templates):
        raise UsageError("names and templates differ in number", got=len(names), expected=len(templates))
    if len({check_name(name).casefold() for name in names}) != len(names):
        raise UsageError("two people have one name", do="give each a name of their own")


def _unit_rows(templates: np.ndarray, rows: list[int]) -> np.ndarray:
    chosen = np.asarray(templates[rows])
    lengths = np.linalg.norm(chosen, axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-2))
    if len(wrong):
        row = rows[int(wrong[0])]
        raise UsageError(f"template {row} is not of unit length", got=float(lengths[wrong[0]]), expected=1)
    return chosen
