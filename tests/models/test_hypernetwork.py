"""Trunk, verifier and the three generators compute what they say, in torch and in the written h."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.generator import Generator, GeneratorInfo
from models.h_onnx import write_generator
from models.hypernetwork import GENERATORS, HyperNetwork
from models.spec import DEFAULT_SPEC, VerifierSpec, mobile_spec
from models.verifier import Trunk, run_layers, to_input, verify_users
from toolkit.errors import ArtifactError, MissingError, UsageError


def network(generator: str) -> HyperNetwork:
    """A network with all its parts away from their silent start, in evaluation mode."""
    torch.manual_seed(5)
    net = HyperNetwork(DEFAULT_SPEC, 16, generator, hidden=8).eval()  # type: ignore[arg-type]
    for norm in net.trunk.norms.values():
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.1, 0.5)
    for name in ("gamma", "beta", "left", "delta"):
        if hasattr(net, name):
            torch.nn.init.normal_(getattr(net, name).weight, 0, 0.02)
    return net


def templates(count: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, 16, generator=torch.Generator().manual_seed(1)), dim=1)


def test_folded_weights_compute_what_the_trunk_does(noise_faces: np.ndarray) -> None:
    net, e = network("head"), templates(3)
    x = to_input(torch.from_numpy(noise_faces).permute(0, 3, 1, 2))
    shared = net.shared_scores(e, x)
    for row, theta in zip(shared, net(e), strict=True):
        torch.testing.assert_close(verify_users(DEFAULT_SPEC, theta[None], x[None])[0], row, atol=1e-5, rtol=0)


POOLED = mobile_spec(32, 8, ((12, 2), (16, 2), (16, 1)), features=16, half=0, pooled=True)


@pytest.mark.parametrize(("spec", "branches"), [(DEFAULT_SPEC, 1), (DEFAULT_SPEC, 3), (POOLED, 2)])
def test_branches_fold_into_one(spec: VerifierSpec, branches: int) -> None:
    torch.manual_seed(6)
    trunk = Trunk(spec, branches)
    x = torch.rand(8, 3, spec.input_px, spec.input_px) * 2 - 1
    for norm in trunk.norms.values():
        torch.nn.init.uniform_(norm.weight, 0.1, 0.4)  # type: ignore[arg-type]
        torch.nn.init.normal_(norm.bias, 0, 0.1)  # type: ignore[arg-type]
        norm.momentum = None  # a plain mean
    trunk.train()(x)
    trunk.eval()
    head = torch.zeros(1, spec.slots["score.weight"].size + 1)
    with torch.no_grad():
        theta = torch.cat([trunk.fold()[None], head], 1)
        said = trunk(x)
        torch.testing.assert_close(run_layers(spec, theta, x), said, atol=1e-5, rtol=0)
        torch.testing.assert_close(trunk.merged()(x), said, atol=1e-5, rtol=0)
    blocks = sum(layer.name.endswith(".depthwise") for layer in spec.trunk)
    extra = blocks if branches > 1 else 0  # and the input itself
    assert len(trunk.norms) == branches * len(spec.trunk) + extra
    assert len(trunk.merged().norms) == len(spec.trunk)


def test_many_users_at_once_equal_one_by_one(noise_faces: np.ndarray) -> None:
    theta = network("full")(templates(4))
    x = to_input(torch.from_numpy(noise_faces).permute(0, 3, 1, 2)).unflatten(0, (4, 2))
    together = verify_users(DEFAULT_SPEC, theta, x)
    alone = torch.stack(
        [verify_users(DEFAULT_SPEC, t[None], faces[None])[0] for t, faces in zip(theta, x, strict=True)]
    )
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("generator", GENERATORS)
def test_generators_make_the_same_kind_of_theta(generator: str) -> None:
    theta = network(generator)(templates(3))
    assert theta.shape == (3, DEFAULT_SPEC.params)
    head = DEFAULT_SPEC.slots["score.weight"].offset
    personal = (theta.std(0) > 0).numpy()
    assert personal[head:].all()
    share = personal[:head].mean()
    assert share == 0 if generator == "head" else share > 0.99


@pytest.mark.parametrize("generator", GENERATORS[1:])
def test_a_new_generator_begins_as_the_head_generator(generator: str) -> None:
    torch.manual_seed(0)
    fresh = HyperNetwork(DEFAULT_SPEC, 16, generator, hidden=8).eval()  # type: ignore[arg-type]
    theta = fresh(templates(2))
    torch.testing.assert_close(theta[0, : fresh.trunk.fold().numel()], fresh.trunk.fold())


@pytest.mark.parametrize("generator", GENERATORS)
def test_written_h_equals_torch(generator: str, tmp_path: Path) -> None:
    net, e = network(generator), templates(5)
    save(net, generator, tmp_path)
    theta = Generator(tmp_path / "h.onnx").weights(e.numpy())
    np.testing.assert_allclose(theta, net(e).detach().numpy(), atol=1e-5)
    assert write_generator(net) == write_generator(net)


def save(net: HyperNetwork, generator: str, folder: Path) -> None:
    import json

    (folder / "h.onnx").write_bytes(write_generator(net))
    info = GeneratorInfo("1", generator, "sface", "0", net.spec, {}, {})
    (folder / "h.json").write_text(json.dumps(info.to_dict()))


def test_bad_templates_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no generator"):
        Generator(tmp_path / "h.onnx")
    save(network("head"), "head", tmp_path)
    h = Generator(tmp_path / "h.onnx")
    for bad in (np.zeros((1, 5), np.float32), np.full((1, 16), np.nan, np.float32)):
        with pytest.raises(UsageError, match="templates"):
            h.weights(bad)
    (tmp_path / "h.onnx").write_bytes(b"not onnx")
    with pytest.raises(ArtifactError, match="not a usable ONNX file"):
        Generator(tmp_path / "h.onnx")
    (tmp_path / "h.json").write_text('{"schema_version": 99}')
    with pytest.raises(ArtifactError, match="another schema"):
        Generator(tmp_path / "h.onnx")
