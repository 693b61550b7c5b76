"""Face packs in InsightFace's formats: `.bin` (a pickle of JPEGs and booleans) and `.rec` (MXNet's RecordIO).

A pickle is a program. This one is never run: its steps are read one by one, and any but those that build lists of bytes
and booleans is refused, so a pack from anywhere can do no harm.
"""

from __future__ import annotations

import io
import pickletools
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from toolkit.errors import InputError

T = TypeVar("T")
_MARK = object()
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING"}
_BOOLEANS = {("NEWTRUE", None): True, ("NEWFALSE", None): False, ("INT", True): True, ("INT", False): False}
_PUT, _GET = {"BINPUT", "LONG_BINPUT", "PUT"}, {"BINGET", "LONG_BINGET", "GET"}
_NOTHING = {"PROTO", "FRAME"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

RECORD_MAGIC = 0xCED7230A
_HEADER = struct.Struct("<IfQQ")  # flag, label, two ids: MXNet's IRHeader


def read_bin(path: Path) -> tuple[list[bytes], list[bool]]:
    """Encoded images [2 N] and whether each two in a row show one person [N].

    Raises InputError for an unreadable file, and for a pickle of anything but bytes and booleans.
    """
    try:
        content = _Steps(path).result(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read", got=error.strerror) from error
    except (ValueError, IndexError, KeyError, struct.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} is not a face pack", got=reason, expected="a pickle of images and booleans"
        ) from error
    images, same = content if isinstance(content, (tuple, list)) and len(content) == 2 else ((), None)
    if not _all_of(images, bytes) or not _all_of(same, bool):
        raise InputError(f"{path} is not a face pack", expected="a list of images and a list of booleans")
    if not same or len(images) != 2 * len(same):
        raise InputError(f"{path} does not pair its images", got=f"{len(images)} images, {len(same)} booleans")
    return images, same


def _all_of(items: Any, kind: type[T]) -> TypeGuard[list[T]]:
    return isinstance(items, (list, tuple)) and all(isinstance(item, kind) for item in items)


class _Steps:
    """A stack machine for the few steps that lists, tuples, bytes and booleans need."""

    def __init__(self, path: Path):
        self._path = path
        self._stack: list[Any] = []
        self._kept: dict[int, Any] = {}

    def result(self, data: bytes) -> Any:
        with warnings.catch_warnings():
            # pickletools warns of escapes in strings, which are bytes here.
            warnings.simplefilter("ignore", DeprecationWarning)
            for step, argument, _ in pickletools.genops(io.BytesIO(data)):
                if step.name == "STOP":
                    return self._stack.pop()
                self._take(step.name, argument)
        raise ValueError("it has no end")

    def _take(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _BYTES:
            # A string that Python 2 wrote holds bytes too, which pickletools shows as Latin-1.
            stack.append(argument.encode("latin-1") if isinstance(argument, str) else argument)
        elif isinstance(argument, bool | None) and (name, argument) in _BOOLEANS:
            stack.append(_BOOLEANS[name, argument])
        elif name in _PUT:
            self._kept[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._kept[len(self._kept)] = stack[-1]
        elif name in _GET:
            stack.append(self._kept[argument])
        elif name not in _NOTHING:
            self._build(name)

    def _build(self, name: str) -> None:
        """Lists and tuples. Raises InputError for any other step."""
        stack = self._stack
        if name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(reversed(items)))
        elif name in ("TUPLE", "LIST"):
            items = self._after_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._after_mark()
            if not isinstance(stack[-1], list):
                raise ValueError("it appends to something that is no list")
            stack[-1].extend(items)
        else:
            raise InputError(
                f"{self._path} holds more than images and booleans and is refused",
                got=f"the pickle step {name}",
                do="use a pack of bytes and booleans; one that holds code or arrays is never loaded",
            )

    def _after_mark(self) -> list[Any]:
        at = max((i for i, item in enumerate(self._stack) if item is _MARK), default=-1)
        if at < 0:
            raise ValueError("its marks do not match")
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items


def read_rec(path: Path) -> Iterator[tuple[bytes, str]]:
    """Encoded image and label, as text, of each record of a RecordIO file; records without an image are left out.

    InsightFace's first record says where the identities' own index records begin: both carry no image.
    """
    empty = True
    for record in _records(path):
        if len(record) < _HEADER.size:
            raise InputError(f"{path} has a record without a header", got=f"{len(record)} bytes")
        flag, label, _, _ = _HEADER.unpack_from(record)
        start = _HEADER.size + 4 * flag
        if start > len(record):
            raise InputError(f"{path} has a record shorter than its labels", got=f"{flag} labels")
        if len(record) > start:
            first = struct.unpack_from("<f", record, _HEADER.size)[0] if flag else label
            if not abs(first) < 2**31:
                raise InputError(f"{path} has a record without a usable label", got=first)
            empty = False
            yield record[start:], str(int(first))
    if empty:
        raise InputError(f"{path} holds no images")


def _records(path: Path) -> Iterator[bytes]:
    """Whole records; the parts of one that holds RecordIO's magic number are joined by it again."""
    try:
        with path.open("rb") as stream:
            yield from _read_records(path, stream.read)
    except OSError as error:
        raise InputError(f"{path} cannot be read", got=error.strerror) from error


def _read_records(path: Path, read: Callable[[int], bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    while head := read(8):
        magic, length = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
        kind, size = length >> 29, length & (1 << 29) - 1
        data = read(size + -size % 4)
        if magic != RECORD_MAGIC or len(data) < size:
            raise InputError(f"{path} is not a whole RecordIO file", do="copy it again")
        parts.append(data[:size])
        if kind in (0, 3):  # complete, or the last part
            yield struct.pack("<I", RECORD_MAGIC).join(parts)
            parts = []
    if parts:
        raise InputError(f"{path} ends within a record", do="copy it again")
