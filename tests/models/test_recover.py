"""Training goes on from a generator's files alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests_support import APART

from models.faceset import FaceSet
from models.grow import Weights, grown
from models.h_onnx import write_generator
from models.hypernetwork import HyperNetwork
from models.normalisation import impostor_statistics, normalised
from models.ranges import fill_ranges
from models.recover import recovered
from models.spec import DEFAULT_SPEC, VerifierSpec, mobile_spec
from models.verifier import to_input
from tests.models.test_hypernetwork import save, templates
from tests.models.test_normalisation import faces as _faces
from tests.models.test_normalisation import settled
from toolkit.errors import UsageError

faces = _faces  # the fixture
AT_ONCE = mobile_spec(blocks=((16, 2), (16, 1), (24, 2)), features=16, half=0)


def trained(spec: VerifierSpec, x: torch.Tensor) -> HyperNetwork:
    """A network whose normalisation has statistics, scales and shifts of its own."""
    torch.manual_seed(5)
    net = HyperNetwork(spec, 16)
    with torch.no_grad():
        for norm in net.trunk.norms.values():
            norm.reset_running_stats()  # type: ignore[operator]
            norm.momentum = None
            norm.weight.copy_(torch.rand_like(norm.weight) * 0.5 + 0.2)  # type: ignore[operator,arg-type]
            norm.bias.copy_(torch.randn_like(norm.bias) * 0.1)  # type: ignore[operator,arg-type]
        net.train().trunk(x)
    return net.eval()


@pytest.mark.parametrize("spec", [mobile_spec(joined=True), APART, AT_ONCE], ids=["joined halves", "halves", "at once"])
def test_a_network_is_recovered_from_what_was_written_of_it(
    spec: VerifierSpec,
    faces: FaceSet,
    tmp_path: Path,
) -> None:
    x, users = to_input(torch.from_numpy(faces.pixels).permute(0, 3, 1, 2)), templates(6)
    net = trained(spec, x)
    with torch.no_grad():
        before = net.shared_scores(users, x)
        for parameter in net.head.parameters():  # as training does at its end
            parameter.mul_(3.0)
        net.head.bias[-1] += 0.25
    plain = write_generator(net)
    save(net, "head", tmp_path)
    (tmp_path / "h.onnx").write_bytes(normalised(plain, impostor_statistics(plain, spec, faces, "sface")))
    told = json.loads((tmp_path / "h.json").read_text())
    told["training"] |= {"score_factor": 3.0, "score_shift": 0.25}
    (tmp_path / "h.json").write_text(json.dumps(told))
    again = recovered(tmp_path / "h.onnx", spec, told["backbone"], [x[:48], x[48:]])
    with torch.no_grad():
        torch.testing.assert_close(again.eval().shared_scores(users, x), before, atol=2e-4, rtol=0)
        learning = again.train().shared_scores(users, x)  # with the statistics of this very batch
    # The network that was written does not learn from exactly what it shows either: running variances are unbiased.
    torch.testing.assert_close(learning, before, atol=2e-2, rtol=0)
    fresh = HyperNetwork(spec, 16)
    for layer in spec.trunk:
        sizes = [n.trunk.conv(layer).weight.detach().flatten(1).norm(dim=1) for n in (again, fresh)]
        assert float(sizes[0].mean()) == pytest.approx(float(sizes[1].mean()), rel=0.3), "what learning rates are for"
        assert float(sizes[0].std()) < 1e-4, "filters do not remember what normalisation made of them"


def test_ranges_that_were_filled_are_so_no_longer(faces: FaceSet, tmp_path: Path) -> None:
    """Else a layer's channels are tens of times as large as in training, and the weights that read them as small."""
    x, users = to_input(torch.from_numpy(faces.pixels).permute(0, 3, 1, 2)), templates(6)
    net = trained(DEFAULT_SPEC, x)
    with torch.no_grad():
        net.trunk.norm(layer := DEFAULT_SPEC.trunk[-1]).weight.mul_(0.1)
        net.trunk.norm(layer).bias.mul_(0.1)
        before = net.shared_scores(users, x)
    size, large = net.head.weight.detach()[:-1].std(), net.trunk.norm(layer).weight.detach().mean()
    factors = fill_ranges(net, x)
    assert layer.name == "features"
    assert factors[layer.name] > 2
    save(net, "head", tmp_path)
    told = json.loads((tmp_path / "h.json").read_text())
    told["training"]["range_factors"] = factors
    (tmp_path / "h.json").write_text(json.dumps(told))
    again = recovered(tmp_path / "h.onnx", DEFAULT_SPEC, told["backbone"], [x]).eval()
    assert float(again.head.weight.detach()[:-1].std()) == pytest.approx(float(size), rel=0.3)
    assert float(again.trunk.norm(layer).weight.detach().mean()) == pytest.approx(float(large), rel=0.3)
    with torch.no_grad():
        torch.testing.assert_close(again.shared_scores(users, x), before, atol=2e-3, rtol=0)


def head_weights(net: HyperNetwork) -> Weights:
    with torch.no_grad():
        return Weights(net.trunk.fold()[None], net.head.weight.detach(), net.head.bias.detach())


def test_a_wider_form_does_at_first_what_the_one_before_did(faces: FaceSet, tmp_path: Path) -> None:
    x, users = to_input(torch.from_numpy(faces.pixels).permute(0, 3, 1, 2)), templates(6)
    net = trained(AT_ONCE, x)
    save(net, "head", tmp_path)
    backbone = json.loads((tmp_path / "h.json").read_text())["backbone"]
    wider = mobile_spec(blocks=((16, 2), (16, 1), (32, 2)), features=24, half=0, stem=20, expansion=3)
    with pytest.raises(UsageError, match="take over what fits with --grow"):
        recovered(tmp_path / "h.onnx", wider, backbone, [x])
    again = recovered(tmp_path / "h.onnx", wider, backbone, [x], grow=1)
    with torch.no_grad():
        torch.testing.assert_close(again.eval().shared_scores(users, x), net.shared_scores(users, x), atol=2e-4, rtol=0)
    other = recovered(tmp_path / "h.onnx", wider, backbone, [x], grow=2)
    fresh, drawn_anew = (
        n.trunk.conv(wider.trunk[0]).weight.detach()[AT_ONCE.trunk[0].out_channels :] for n in (again, other)
    )
    assert float(fresh.std()) > 0.01, "there is something to learn with"
    assert not torch.equal(fresh, drawn_anew), "another seed"


def test_a_form_takes_over_what_fits() -> None:
    """Smaller maps, fewer channels, a layer that was not there, another kernel: the rest is fresh and finite."""
    net = trained(DEFAULT_SPEC, torch.randn(8, 3, 64, 64).clamp(-1, 1))
    smaller = mobile_spec(input_px=48, half=24, stem=6, features=12, kernel=5, joined=True)
    weights = grown(before := head_weights(net), DEFAULT_SPEC, smaller, 1)
    assert weights.trunk.shape == (1, smaller.params - smaller.slots["score.weight"].size - 1)
    assert all(np.isfinite(part.numpy()).all() for part in vars(weights).values())
    kept = smaller.slots["stem.bias"]
    torch.testing.assert_close(
        weights.trunk[0, kept.offset : kept.end], before.trunk[0, DEFAULT_SPEC.slots["stem.bias"].offset :][:6]
    )
    shapes = [layer.weight_shape[1:] for layer in (DEFAULT_SPEC.head, smaller.head)]
    maps = [w.head[:-1].unflatten(0, shape) for w, shape in zip((before, weights), shapes, strict=True)]
    torch.testing.assert_close(maps[1], maps[0][:12, : shapes[1][1], : shapes[1][2]])
    assert torch.equal(weights.bias[-1], before.bias[-1])


def test_another_form_or_backbone_is_refused(faces: FaceSet, tmp_path: Path) -> None:
    net = settled("head", faces)
    save(net, "head", tmp_path)
    backbone = json.loads((tmp_path / "h.json").read_text())["backbone"]
    path = tmp_path / "h.onnx"
    with pytest.raises(UsageError, match="does not fit this configuration"):
        recovered(path, dataclasses.replace(DEFAULT_SPEC, region=(0, 0, 112)), backbone, [])
    with pytest.raises(UsageError, match="does not fit this configuration"):
        recovered(path, DEFAULT_SPEC, "no such", [])


def test_faces_that_never_vary_do_not_break_it(tmp_path: Path) -> None:
    x = torch.zeros(4, 3, 64, 64)
    net = trained(AT_ONCE, torch.randn(8, 3, 64, 64).clamp(-1, 1))
    save(net, "head", tmp_path)
    backbone = json.loads((tmp_path / "h.json").read_text())["backbone"]
    again = recovered(tmp_path / "h.onnx", AT_ONCE, backbone, [x])
    assert all(np.isfinite(value.numpy()).all() for value in again.state_dict().values())
