"""Where each layer's output lives in the C code's one block of working memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from models.spec import VerifierSpec

ALIGNMENT_BYTES = 16  # of each buffer, from the arena's start


@dataclass(frozen=True)
class Plan:
    """offsets: bytes from the arena's start, of "image" and of each layer. `lives`: first and last step of each."""

    offsets: dict[str, int]
    sizes: dict[str, int]
    lives: dict[str, tuple[int, int]]
    size_bytes: int


def plan_arena(spec: VerifierSpec, width_bytes: int) -> Plan:
    """Largest buffer first, each at the lowest offset where it overlaps no other that lives at the same time."""
    sizes, lives = _buffers(spec, width_bytes)
    offsets: dict[str, int] = {}
    for name in sorted(sizes, key=lambda n: (-sizes[n], lives[n])):
        neighbours = sorted(
            (offsets[other], offsets[other] + sizes[other]) for other in offsets if _meet(lives[name], lives[other])
        )
        offset = 0
        for start, end in neighbours:
            if offset + sizes[name] <= start:
                break
            offset = max(offset, end)
        offsets[name] = offset
    return Plan(offsets, sizes, lives, max(offsets[name] + sizes[name] for name in sizes))


def _buffers(spec: VerifierSpec, width_bytes: int) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    """Size in bytes, and the steps from the one that writes to the last that reads, of every buffer.

    One half of a face goes through its layers after the other, in the same places; the last of them keeps both.
    """
    kept = spec.halved[-1:]
    counts = {layer.name: prod(spec.shape(layer)[layer.name not in kept :]) for layer in spec.layers}
    if not spec.halved:  # halves are made of the pixels themselves
        counts = {"image": spec.input_px**2 * 3} | counts
    sizes = {name: -(-count * width_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for name, count in counts.items()}
    first = {"image": 0}
    last = {"image": 1}
    for step, layer in enumerate(spec.layers, 1):
        first[layer.name], last[layer.name] = step, step + 1
        if layer.skip:
            last[layer.skip] = step
    first |= dict.fromkeys(kept, 1)
    return sizes, {name: (first[name], last[name]) for name in sizes}


def _meet(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]
