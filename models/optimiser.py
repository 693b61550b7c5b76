"""Muon for the trunk's dense convolutions, AdamW for everything else, as one optimiser.

Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) replaces the momentum of a matrix
by the nearest orthogonal matrix, so that the rare directions of a layer learn as fast as the common ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.schedule import one_cycle
from models.verifier import Trunk


class Optimiser:
    """Steps every parameter of `modules`; its learning rates follow `one_cycle` up to their peaks."""

    def __init__(self, trunk: Trunk, modules: list[nn.Module], rate: float, conv_rate: float, weight_decay: float):
        """`conv_rate` is Muon's peak; 0 leaves the convolutions to AdamW and its `rate` as well."""
        self.parameters = [p for module in modules for p in module.parameters()]
        # A depthwise kernel is no matrix: each of its channels stands alone.
        dense = [m.weight for m in trunk.convs.values() if isinstance(m, nn.Conv2d) and m.groups == 1]
        self._convs = dense if conv_rate else []
        taken = {id(p) for p in self._convs}
        rest = [p for p in self.parameters if id(p) not in taken]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=weight_decay), rate)
        ]
        # Muon takes matrices alone, so it works on copies [C_out, C_in * K * K] that hold the kernels' values.
        self._matrices = [nn.Parameter(p.detach().flatten(1).clone()) for p in self._convs]
        if self._convs:
            muon = torch.optim.Muon(self._matrices, lr=conv_rate, weight_decay=weight_decay)
            self._parts.append((muon, conv_rate))

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, progress: float) -> None:
        """One step from the gradients, at `progress` 0..1 of the stage."""
        for matrix, conv in zip(self._matrices, self._convs, strict=True):
            matrix.copy_(conv.flatten(1))
            matrix.grad = _gradient(conv).flatten(1)
        for part, peak in self._parts:
            for group in part.param_groups:
                group["lr"] = one_cycle(progress, peak)
            part.step()
        for matrix, conv in zip(self._matrices, self._convs, strict=True):
            conv.copy_(matrix.view_as(conv))

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part, _ in self._parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for (part, _), state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
