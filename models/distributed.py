"""Training in several processes, started by torchrun: each takes its part of every batch, all keep one network.

A step equals that of one process with the whole batch: normalisation uses the joint statistics, the matrix of scores is
gathered before the loss, so that every pair counts, and gradients are averaged. Each process computes the whole loss:
it is small beside the network.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn
from torch.distributed.nn.functional import all_reduce

from toolkit.errors import UsageError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Group:
    """The processes of one run. Alone, every method gives back what it was given."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and reports."""
        return self.rank == 0

    def check(self, **shared: int) -> None:
        """Raises UsageError for a setting that the processes cannot share evenly."""
        for name, count in shared.items():
            if count % self.size:
                what = f"the setting {name} cannot be shared by {self.size} processes"
                raise UsageError(what, got=count, expected=f"a multiple of {self.size}")

    def part(self, rows: np.ndarray) -> np.ndarray:
        """This process's rows, of as many as all have together."""
        return np.split(rows, self.size)[self.rank]

    def own(self, noise: Generator) -> Generator:
        """Random numbers that no other process draws."""
        return noise.manual_seed(noise.initial_seed() + self.rank) if self.rank else noise

    def gathered(self, parts: Tensor, dim: int) -> Tensor:
        """Every process's part, side by side in `part`'s order; gradients find their way back."""
        whole: Tensor = _Gathered.apply(parts, dim, self) if self.size > 1 else parts  # type: ignore[no-untyped-call]
        return whole

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        means = torch.split(flat / self.size, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether one process or more says yes."""
        if self.size == 1:
            return flag
        votes = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(votes)
        return bool(votes)

    def prepare(self, network: nn.Module) -> None:
        """Move the network to this process's device and join its normalisation with the others'."""
        place(network, self.device)
        if self.size > 1:
            for module in list(network.modules()):
                if isinstance(module, nn.ModuleDict):
                    for name, norm in module.items():
                        if isinstance(norm, nn.BatchNorm2d):
                            module[name] = JointBatchNorm.of(norm)


class _Gathered(torch.autograd.Function):
    """The parts of all processes as one tensor. torch's own function for it mixes up gradients that come transposed."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, dim: int, group: Group) -> Tensor:
        ctx.dim, ctx.group = dim, group
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(group.size)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(ctx.group.size, ctx.dim)[ctx.group.rank], None, None


def place(network: nn.Module, device: torch.device) -> None:
    """Move parameters, buffers and the network's own constants."""
    network.to(device)
    for name, value in vars(network).items():
        if isinstance(value, Tensor):
            setattr(network, name, value.to(device))


@torch.compiler.disable  # type: ignore[untyped-decorator]  # what lies between two exchanges is compiled
def _joint(sums: Tensor) -> Tensor:
    """The sum over all processes; gradients find their way back."""
    total: Tensor = all_reduce(sums)  # type: ignore[no-untyped-call]
    return total


class JointBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, on any device: torch's own SyncBatchNorm needs GPUs."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> JointBatchNorm:
        joint = cls(norm.num_features, norm.eps, norm.momentum).to(norm.weight.device)
        joint.load_state_dict(norm.state_dict())
        return joint

    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, H, W] to the same shape; N is the same in every process."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        count = x.numel() // x.shape[1] * dist.get_world_size()
        sums = _joint(torch.stack([x.sum((0, 2, 3)), x.square().sum((0, 2, 3))]))  # [2, C]
        mean, square = sums / count  # [C] each
        variance = square - mean.square()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift: Tensor = self.bias - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


@contextmanager
def joined_processes() -> Iterator[Group]:
    """The group that torchrun's environment describes: NCCL with one GPU a process where there are any, else gloo."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if "RANK" not in os.environ or (size == 1 and not torch.cuda.is_available()):
        yield Group()
        return
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else CPU
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield Group(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()
