"""Draw where each layer's output lives in the C code's working memory, step by step.

    python scripts/arena_map.py [docs/img/arena.svg]

One box a buffer: from left to right the steps in which it is needed, from top to bottom its bytes. Boxes never overlap.
"""

from __future__ import annotations

import sys
from pathlib import Path

from export.arena import Plan, plan_arena
from models.spec import DEFAULT_SPEC, VerifierSpec

STEP_PX, KILOBYTE_PX = 30, 9
LEFT_PX, TOP_PX, BELOW_PX, RIGHT_PX = 62, 34, 126, 16
COLOURS = {"image": "#b9c2cc", "halves": "#b9c2cc", "conv": "#8fb8de", "depthwise": "#a8d5a2", "add": "#f2c48d",
           "mean": "#d9b8e0", "dense": "#e59a9a"}  # fmt: skip
KINDS = {"image": "picture", "halves": "halves", "conv": "convolution", "depthwise": "depthwise", "add": "addition",
         "mean": "mean", "dense": "score"}  # fmt: skip


def draw(spec: VerifierSpec) -> str:
    """An SVG of the int8 code's arena."""
    plan = plan_arena(spec, 1)
    kinds = {"image": "image"} if "image" in plan.sizes else {}
    kinds |= {layer.name: layer.kind for layer in spec.layers}
    width = LEFT_PX + (len(spec.layers) + 2) * STEP_PX + RIGHT_PX
    bottom = TOP_PX + plan.size_bytes / 1000 * KILOBYTE_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + BELOW_PX:.0f}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT_PX}" y="20" font-size="13">Arena of the int8 C code: {plan.size_bytes:,} bytes</text>',
        *_axes(plan, width - RIGHT_PX, bottom),
        *(_box(plan, name, COLOURS[kinds[name]]) for name in plan.sizes),
        *(_step(name, i, bottom) for i, name in enumerate(kinds)),
        *_legend(bottom + BELOW_PX - 12, set(kinds.values())),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axes(plan: Plan, right: float, bottom: float) -> list[str]:
    lines = []
    for kilobytes in range(0, plan.size_bytes // 1000 + 1, 8):
        y = TOP_PX + kilobytes * KILOBYTE_PX
        lines.append(f'<path d="M{LEFT_PX} {y}H{right}" stroke="#dddddd"/>')
        lines.append(f'<text x="{LEFT_PX - 6}" y="{y + 4}" text-anchor="end">{kilobytes} KB</text>')
    return [*lines, f'<path d="M{LEFT_PX} {bottom:.1f}H{right}" stroke="#888888"/>']


def _box(plan: Plan, name: str, colour: str) -> str:
    first, last = plan.lives[name]
    x, y = LEFT_PX + first * STEP_PX, TOP_PX + plan.offsets[name] / 1000 * KILOBYTE_PX
    width, height = (last - first + 1) * STEP_PX, plan.sizes[name] / 1000 * KILOBYTE_PX
    size = f"{name}: {plan.sizes[name]:,} bytes at {plan.offsets[name]:,}"
    return (
        f'<rect x="{x}" y="{y:.1f}" width="{width}" height="{max(height, 1):.1f}" fill="{colour}" fill-opacity="0.85" '
        f'stroke="#555555" stroke-width="0.6"><title>{size}</title></rect>'
    )


def _step(name: str, step: int, bottom: float) -> str:
    x, y = LEFT_PX + (step + 0.62) * STEP_PX, bottom + 8
    return f'<text transform="translate({x:.1f} {y:.1f}) rotate(-60)" text-anchor="end" font-size="9">{name}</text>'


def _legend(y: float, shown: set[str]) -> list[str]:
    parts = []
    for i, (kind, label) in enumerate((kind, label) for kind, label in KINDS.items() if kind in shown):
        x = LEFT_PX + i * 110
        parts.append(f'<rect x="{x}" y="{y - 9:.0f}" width="10" height="10" fill="{COLOURS[kind]}" stroke="#555555"/>')
        parts.append(f'<text x="{x + 15}" y="{y:.0f}">{label}</text>')
    return parts


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/img/arena.svg")
    target.write_text(draw(DEFAULT_SPEC))
    print(f"wrote {target}", file=sys.stderr)
