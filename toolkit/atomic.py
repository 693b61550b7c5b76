"""Write files so that a reader, a full disk or a kill never meets half of one. No dependencies."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from toolkit.errors import MissingError, UsageError


def _explain(error: OSError, path: Path) -> Exception:
    remedy = "free some space or choose another folder" if error.errno == 28 else "choose a writable folder"
    kind = MissingError if error.errno == 28 else UsageError
    return kind(f"cannot write {path}", got=os.strerror(error.errno or 0), do=remedy)


def write_atomically(path: Path, content: bytes | Callable[[IO[bytes]], object], mode: int = 0o600) -> None:
    """Write to a temporary name beside `path`, flush it to disk, rename. Raises UsageError or MissingError."""
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def folder_atomically(path: Path, *, replace: bool) -> Iterator[Path]:
    """Yield a temporary folder (0700) beside `path` that takes its place when the block ends without an error.

    An existing `path` is moved aside first and restored if the swap fails. Raises UsageError if it exists and
    `replace` is false.
    """
    path = path.resolve()  # a link to a folder stays a link, to the new one
    if path.exists() and not replace:
        raise UsageError(f"{path} exists already", do="choose another name or pass --replace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _explain(error, path) from error
    try:
        yield temporary
        _swap(temporary, path)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(temporary: Path, path: Path) -> None:
    """Put `temporary` at `path`. A kill between the two renames leaves the old content as `.NAME.old`."""
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if not path.exists():
        temporary.replace(path)
        return
    path.replace(old)
    try:
        temporary.replace(path)
    except OSError:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
