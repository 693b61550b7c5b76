"""Networks of earlier runs: read from their checkpoints, and the mean of several."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.hypernetwork import HyperNetwork
from toolkit.errors import UsageError

CHECKPOINT_KEYS = ("config", "data", "stage", "step", "network", "average", "loss", "optimiser")


def read_checkpoint(path: Path, do: str) -> dict[str, Any]:
    """A run's whole state. Raises UsageError, with what to `do`, for anything but a checkpoint of this version."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: state[name] for name in CHECKPOINT_KEYS} | {"origin": state.get("origin")}
    except (OSError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError, EOFError) as error:
        what = f"{path} is not a checkpoint of this version"
        raise UsageError(what, got=type(error).__name__, do=do) from error


def own_state(path: Path, config: str, data: str, origin: str | None) -> dict[str, Any]:
    """The state of a run that goes on, with this configuration and data. Raises UsageError.

    `origin` says with which networks it is to begin, and is empty where none are named: then whatever it began with is
    right. Checkpoints from before there was an origin do not tell.
    """
    do = "choose another folder with --out, or start over with --fresh"
    state = read_checkpoint(path, do)
    if (state["config"], state["data"]) != (config, data):
        raise UsageError(f"{path} belongs to another configuration or other data", do=do)
    if origin and state["origin"] not in (None, origin):
        raise UsageError(f"{path} is of a run that began with another network", do=do)
    return state


def averaged_weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """The moving average of the run's network, by name."""
    return {k.removeprefix("module."): v for k, v in state["average"].items() if k.startswith("module.")}


def take(network: HyperNetwork, weights: dict[str, Tensor], origin: Path) -> None:
    """Put `weights` into a network whose generator may be richer. Raises UsageError, naming `origin`."""
    what = f"{origin} does not fit this configuration"
    do = "start from one with the same verifier, backbone and branches"
    try:
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise UsageError(what, got=str(error).splitlines()[-1].strip(), do=do) from error
    lacking = [name for name in missing if name.startswith(("trunk", "head"))]
    if unexpected or lacking:
        example = [*unexpected, *lacking][0]
        counts = f"{len(unexpected)} tensors too many and {len(lacking)} too few, {example} among them"
        raise UsageError(what, got=counts, do=do)


def mean_of(networks: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each of their tensors, in its own kind of number. Raises UsageError for networks of two kinds."""
    first = networks[0]
    if any(network.keys() != first.keys() for network in networks):
        raise UsageError("runs of different generators have no mean", do="name runs of one generator")
    return {name: torch.stack([n[name].double() for n in networks]).mean(0).to(first[name].dtype) for name in first}
