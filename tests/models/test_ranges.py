"""Filling the int8 ranges changes no fp32 score, and brings int8 scores closer to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.integer import IntegerVerifier
from models.hypernetwork import HyperNetwork
from models.ranges import fill_ranges
from models.spec import VerifierSpec, mobile_spec
from models.verifier import to_input, verify_users

SPEC = mobile_spec(32, 8, ((12, 2), (16, 2)), features=16, half=0)
JOINED = mobile_spec(32, 8, ((12, 2), (16, 2)), features=16, half=18, joined=True)


def faces(count: int) -> np.ndarray:
    """Smooth random pictures, uint8 [N, H, W, 3]."""
    small = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 255
    side = SPEC.input_px
    return torch.nn.functional.interpolate(small, side, mode="bilinear").permute(0, 2, 3, 1).byte().numpy()


def network_with_narrow_features(spec: VerifierSpec, x: torch.Tensor, template: torch.Tensor) -> HyperNetwork:
    """Features that reach a small part of their range, as weight decay leaves them, and scores of about 0 ± 0.1."""
    torch.manual_seed(0)
    network = HyperNetwork(spec, 16)
    for _ in range(40):  # until the normalisation knows its statistics
        network.train().trunk(x)
    network.eval()
    with torch.no_grad():
        network.trunk.norm(spec.layers[-2]).weight.mul_(0.8)  # a channel is scaled up 32 times at most
        network.head.bias.zero_()
        scores = network.shared_scores(template, x)
        network.head.weight.mul_(0.1 / scores.std())
        network.head.bias[-1] = -network.shared_scores(template, x).mean()
    return network


@pytest.mark.parametrize("spec", [SPEC, JOINED], ids=["at once", "halves joined"])
def test_filling_the_ranges_keeps_the_function_and_helps_int8(spec: VerifierSpec) -> None:
    pixels = faces(24)
    x = to_input(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    template = torch.nn.functional.normalize(torch.randn(1, 16, generator=torch.Generator().manual_seed(2)), dim=1)
    network = network_with_narrow_features(spec, x, template)

    def scores() -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            theta = network(template)
            real = verify_users(spec, theta, x[None])[0].numpy()
        return real, IntegerVerifier(spec, theta.numpy()[0]).scores(pixels) / 128

    real, coarse = scores()
    factors = fill_ranges(network, x)
    again, fine = scores()
    np.testing.assert_allclose(again, real, atol=1e-4)
    assert factors["features"] > 5
    errors = [np.abs(integer - real.clip(-1, 127 / 128)).mean() for integer in (coarse, fine)]
    assert errors[1] < errors[0] / 2
    assert fill_ranges(network, x)["features"] == pytest.approx(1, abs=0.01), "nothing is left to fill"


def test_personal_offsets_are_in_the_trunks_units_so_it_stays() -> None:
    network = HyperNetwork(SPEC, 16, "film", hidden=4)
    assert fill_ranges(network, torch.zeros(2, 3, 32, 32)) == {}
