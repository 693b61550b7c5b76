"""Change training faces the way cameras and alignment do. Every function takes and gives [N, 3, H, W] in 0..255."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def _uniform(n: int, low: float, high: float, g: Generator) -> Tensor:
    return torch.rand(n, generator=g) * (high - low) + low


def augment(x: Tensor, g: Generator, share: float = 1.0) -> Tensor:
    """Mirror half of the faces, and let `share` of them look as cameras and alignment make them."""
    n = len(x)
    x = torch.where((torch.rand(n, generator=g) < 0.5)[:, None, None, None], x.flip(3), x)
    if share >= 1:
        return _as_cameras(x, g)
    rows = torch.nonzero(torch.rand(n, generator=g) < share)[:, 0]
    return x.index_copy(0, rows, _as_cameras(x[rows], g)) if len(rows) else x


def _as_cameras(x: Tensor, g: Generator) -> Tensor:
    """Misalign, low resolution, exposure and white balance, noise, occlusion: each on a part of the batch."""
    n = len(x)
    for change, share in ((misalign, 0.3), (lower_resolution, 0.15), (occlude, 0.05)):
        rows = torch.nonzero(torch.rand(n, generator=g) < share)[:, 0]
        if len(rows):
            x = x.index_copy(0, rows, change(x[rows], g))
    return (expose(x, g) + torch.randn(x.shape, generator=g) * _uniform(n, 0, 4, g)[:, None, None, None]).clamp(0, 255)


def misalign(x: Tensor, g: Generator) -> Tensor:
    """Rotate up to 7°, scale up to 7 %, shift up to 4 %: the detector's landmark error, and more."""
    n = len(x)
    angle, scale = _uniform(n, -0.12, 0.12, g), _uniform(n, 0.93, 1.07, g)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift_x, shift_y = _uniform(n, -0.08, 0.08, g), _uniform(n, -0.08, 0.08, g)  # of half the side
    matrix = torch.stack([torch.stack([cos, -sin, shift_x], 1), torch.stack([sin, cos, shift_y], 1)], 1)  # [N, 2, 3]
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def lower_resolution(x: Tensor, g: Generator) -> Tensor:
    """Shrink to between a third and nine tenths of the side, and back: distance, blur and compression."""
    side = x.shape[-1]
    small = int(torch.randint(side // 3, side * 9 // 10, (1,), generator=g))
    shrunk = F.interpolate(x, size=(small, small), mode="area")
    return F.interpolate(shrunk, size=(side, side), mode="bilinear", align_corners=False)


def occlude(x: Tensor, g: Generator) -> Tensor:
    """Cover one rectangle of up to 45 % of the side with one colour: a hand, a mask, a scarf, dark glasses."""
    n, side = len(x), x.shape[-1]
    low, size = torch.rand(2, n, generator=g) * 0.8, torch.rand(2, n, generator=g) * 0.35 + 0.1
    position = (torch.arange(side) + 0.5) / side
    inside = [(position >= low[i, :, None]) & (position < (low[i] + size[i])[:, None]) for i in (0, 1)]  # [N, H] each
    box = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]  # [N, 1, H, W]
    colour = (torch.rand(n, 3, generator=g) * 255)[:, :, None, None]
    return torch.where(box, colour, x)


def expose(x: Tensor, g: Generator) -> Tensor:
    """Contrast, brightness, white balance and sometimes no colour at all."""
    n = len(x)
    mean = x.mean((1, 2, 3), keepdim=True)
    contrast, brightness = _uniform(n, 0.8, 1.2, g), _uniform(n, -25, 25, g)
    balance = torch.rand(n, 3, generator=g) * 0.2 + 0.9
    x = (x - mean) * contrast[:, None, None, None] + mean + brightness[:, None, None, None]
    x = x * balance[:, :, None, None]
    grey = (torch.rand(n, generator=g) < 0.1)[:, None, None, None]
    return torch.where(grey, x.mean(1, keepdim=True), x)
