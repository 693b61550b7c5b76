"""The parcel: one bundle in one file, as it travels and as it is signed. No dependencies.

    magic      9 bytes    "HVPARCEL" and the format's version
    length     4 bytes    of the header, big-endian
    header     canonical JSON: name, counter, files with sizes and hashes, payload hash, signer, recipient
    signature  64 bytes   Ed25519 over magic, length and header; zeros in a plain parcel
    payload    the files one after the other, in the header's order; sealed to one device unless the parcel is plain

Nothing is left outside: the signature covers the header, the header's hash covers the payload, and a byte more or less
is refused. Files have plain names, no paths, links, modes or compression: nothing that could lead outside or blow up.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

from device.link import canonical
from export.manifest import check_name
from toolkit.errors import ArtifactError, InputError, UsageError

MAGIC = b"HVPARCEL\x01"
SUFFIX = ".hvp"
SIGNATURE_BYTES = 64
MAX_HEADER_BYTES = 1 << 16
MAX_FILES = 64
MAX_CONTENT_BYTES = 64 << 20  # of all files together; a bundle has about 1 MB
MAX_COUNTER = 1 << 53  # JSON numbers are exact up to here
SEALING_BYTES = 48  # what sealing adds: an X25519 public key and an authentication tag

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Entry:
    """One file of the bundle."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Header:
    """What the signature says. `counter` orders the versions of one person's bundle."""

    name: str
    counter: int
    files: tuple[Entry, ...]
    payload_bytes: int
    payload_sha256: str
    signed_by: str | None  # key id; None: plain
    sealed_for: str | None  # device id; None: plain
    replaces: int | None = None  # a newer counter that this parcel may take the place of, by the signer's explicit word

    @property
    def plain(self) -> bool:
        return self.signed_by is None

    @property
    def digest(self) -> str:
        """SHA-256 over names and hashes of the files: equal content, equal digest, whoever it is sealed for."""
        return content_digest({entry.name: entry.sha256 for entry in self.files})

    @property
    def content_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files)

    def to_bytes(self) -> bytes:
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        document["files"] = [[entry.name, entry.size_bytes, entry.sha256] for entry in self.files]
        return canonical.encode({"schema_version": 1, **document})

    def context(self) -> bytes:
        """What a sealed payload is bound to: everything but the payload's own hash."""
        document = canonical.decode(self.to_bytes())
        return canonical.encode({k: v for k, v in document.items() if not k.startswith("payload_")})


@dataclass(frozen=True)
class Parcel:
    """A header read from a file, with what was signed and where the payload begins. Nothing is trusted yet."""

    path: Path
    header: Header
    signed: bytes
    signature: bytes
    offset: int

    def payload(self) -> bytes:
        """Exactly the bytes that the header's hash is of. Raises ArtifactError."""
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read(self.header.payload_bytes + 1)
        if len(data) != self.header.payload_bytes:
            got = f"{len(data)} bytes of payload"
            raise _refused(self.path, "its length is wrong", got=got, expected=self.header.payload_bytes)
        if hashlib.sha256(data).hexdigest() != self.header.payload_sha256:
            raise _refused(self.path, "its payload was changed")
        return data


def content_digest(hashes: Mapping[str, str]) -> str:
    return hashlib.sha256(canonical.encode(dict(hashes))).hexdigest()


def read_parcel(path: Path) -> Parcel:
    """Read the header and check its form. Raises InputError (no such file) or ArtifactError (not a sound parcel)."""
    try:
        with path.open("rb") as stream:
            return _read(path, stream)
    except OSError as error:
        raise InputError(f"{path} cannot be read", got=error.strerror) from error


def _read(path: Path, stream: IO[bytes]) -> Parcel:
    start = stream.read(len(MAGIC) + 4)
    if start[: len(MAGIC)] != MAGIC or len(start) < len(MAGIC) + 4:
        raise _refused(path, "it is not a parcel, or of another version", do="give a bundle folder, or a parcel")
    length = int.from_bytes(start[len(MAGIC) :], "big")
    if length > MAX_HEADER_BYTES:
        raise _refused(path, "its header is too long", got=f"{length} bytes", expected=f"at most {MAX_HEADER_BYTES}")
    body, signature = stream.read(length), stream.read(SIGNATURE_BYTES)
    if len(body) != length or len(signature) != SIGNATURE_BYTES:
        raise _refused(path, "it is cut short")
    try:
        header = parse_header(body)
    except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise _refused(path, "its header is damaged", got=str(error) or type(error).__name__) from error
    return Parcel(path, header, start + body, signature, len(start) + length + SIGNATURE_BYTES)


def parse_header(data: bytes) -> Header:
    """Raises ValueError, KeyError, TypeError or UsageError for anything that `Header.to_bytes` would not write."""
    document = canonical.decode(data)
    if document.pop("schema_version") != 1:
        raise ValueError("another schema: update hyperverify")
    document["files"] = tuple(Entry(*row) for row in document["files"])
    header = Header(**document)
    check_name(header.name)
    _check_numbers(header)
    _check_files(header)
    for value, pattern in ((header.signed_by, _ID), (header.sealed_for, _ID), (header.payload_sha256, _HASH)):
        if value is not None and not pattern.fullmatch(value):
            raise ValueError("a hash or an id is malformed")
    if (header.signed_by is None) != (header.sealed_for is None):
        raise ValueError("signed or sealed, but not both")
    return header


def _check_numbers(header: Header) -> None:
    replaces = 1 if header.replaces is None else header.replaces
    for number in (header.counter, header.payload_bytes, replaces, *(e.size_bytes for e in header.files)):
        if type(number) is not int or not 0 <= number <= MAX_COUNTER:
            raise ValueError("a number is out of range")
    overhead = 0 if header.plain else SEALING_BYTES
    if header.content_bytes > MAX_CONTENT_BYTES or header.payload_bytes != header.content_bytes + overhead:
        raise ValueError("its sizes do not add up, or are too large")


def _check_files(header: Header) -> None:
    names = [entry.name.casefold() for entry in header.files]
    if not 0 < len(names) <= MAX_FILES or len(set(names)) != len(names):
        raise ValueError("no files, too many, or one twice")
    for entry in header.files:
        if not FILE_NAME.fullmatch(entry.name) or not _HASH.fullmatch(entry.sha256):
            raise ValueError("a file's name or hash is malformed")


def signed_header(signed: bytes) -> Header:
    """The header inside of what `signed_part` made. Raises as `parse_header` does."""
    return parse_header(signed[len(MAGIC) + 4 :])


def signed_part(header: Header) -> bytes:
    body = header.to_bytes()
    return MAGIC + len(body).to_bytes(4, "big") + body


def split(header: Header, content: bytes) -> dict[str, bytes]:
    """The files of an opened payload, each checked against its hash. Raises ArtifactError."""
    files, at = {}, 0
    for entry in header.files:
        data = content[at : at + entry.size_bytes]
        at += entry.size_bytes
        if len(data) != entry.size_bytes or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise ArtifactError(f"{entry.name} in this parcel is not what its header says", do="pack the bundle again")
        files[entry.name] = data
    return files


def _refused(path: Path, why: str, *, do: str = "copy or pack it again", **details: Any) -> ArtifactError:
    return ArtifactError(f"the parcel {path.name} is refused: {why}", do=do, **details)
