"""Training goes on from a generator's files alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.faceset import FaceSet
from models.h_onnx import write_generator
from models.hypernetwork import HyperNetwork
from models.normalisation import impostor_statistics, normalised
from models.recover import recovered
from models.spec import DEFAULT_SPEC, VerifierSpec, mobile_spec
from models.verifier import to_input
from tests.models.test_hypernetwork import save, templates
from tests.models.test_normalisation import faces as _faces
from tests.models.test_normalisation import settled
from toolkit.errors import UsageError

faces = _faces  # the fixture
JOINED = mobile_spec(joined=True)
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


@pytest.mark.parametrize("spec", [DEFAULT_SPEC, JOINED, AT_ONCE], ids=["halves", "joined halves", "at once"])
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
        sizes = [float(n.trunk.conv(layer).weight.detach().norm()) for n in (again, fresh)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.3), "what learning rates are for"


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
