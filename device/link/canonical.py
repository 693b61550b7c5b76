"""One JSON document, one sequence of bytes: what signatures are made over. No dependencies."""

from __future__ import annotations

import json
from typing import Any


def encode(document: dict[str, Any]) -> bytes:
    """Sorted keys, no spaces, ASCII only. Raises ValueError for NaN and infinities."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode(data: bytes) -> dict[str, Any]:
    """Raises ValueError unless `data` is exactly what `encode` writes for its content."""
    try:
        document = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict) or encode(document) != data:
        raise ValueError("not in canonical form")
    return document
