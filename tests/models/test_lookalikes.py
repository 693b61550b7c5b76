"""How high lookalikes score is found by looking, and learned well enough to be said of a new template."""

from __future__ import annotations

import numpy as np
import pytest

from models.faceset import FaceSet
from models.lookalikes import SHARE, enrolled_templates, learn_lookalikes, scores_of_lookalikes

DIM = 16


def units(rng: np.random.Generator, count: int) -> np.ndarray:
    drawn = rng.normal(size=(count, DIM))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def place(templates: np.ndarray) -> np.ndarray:
    """No line or moment of the template says it."""
    return np.asarray(2.5 + np.abs(templates[:, 0]) * DIM**0.5 / 4)


def test_lookalikes_are_those_with_like_templates_and_never_the_person() -> None:
    angles = np.linspace(0, np.pi / 2, 1000)
    strangers = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)  # the first is the likest
    user = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    # A score of N - n for the n-th likest: the first coordinate says nothing of it, the one behind says it all.
    y = np.stack([np.zeros(1000), np.zeros(1000), 1000 - np.arange(1000)], 1).astype(np.float32)
    same = np.zeros((3, 1000), bool)
    same[1, :500] = True
    same[2] = True
    assert SHARE == 0.03
    found = scores_of_lookalikes(user, user @ strangers.T, y, same)
    # Thirty of a thousand, fifteen of the five hundred that are left, and nobody.
    assert found[:2].tolist() == [np.mean(1000 - np.arange(30)), np.mean(500 - np.arange(15))]
    assert np.isnan(found[2])


def test_scores_are_linear_in_the_template() -> None:
    rng = np.random.default_rng(4)
    users, strangers = units(rng, 3), units(rng, 20)
    y = rng.normal(size=(20, DIM + 1)).astype(np.float32)
    cosines = users @ strangers.T
    likest = np.argmax(cosines, 1)
    expected = (users * y[likest, :-1]).sum(1) + y[likest, -1]
    found = scores_of_lookalikes(users, cosines, y, np.zeros((3, 20), bool))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_is_learned_holds_for_new_templates() -> None:
    rng = np.random.default_rng(5)
    known, new = units(rng, 8192), units(rng, 500)
    network = learn_lookalikes(known, place(known), seed=1)
    left = np.var(network.of(new) - place(new)) / np.var(place(new))
    assert left < 0.2, f"{left:.0%} of the variance is not explained"
    again = learn_lookalikes(known, place(known), seed=1)
    assert (again.first.tobytes(), again.last.tobytes()) == (network.first.tobytes(), network.last.tobytes())


def test_nothing_is_said_beyond_what_was_learned_from() -> None:
    rng = np.random.default_rng(6)
    known = units(rng, 512)
    network = learn_lookalikes(known, place(known), seed=1)
    said = network.of(1000 * units(rng, 50))
    assert place(known).min() <= said.min() < said.max() <= place(known).max()


def test_few_people_who_are_all_alike_are_no_error() -> None:
    rng = np.random.default_rng(7)
    known = units(rng, 3)
    assert learn_lookalikes(known, np.full(3, 2.0), seed=1).of(known) == pytest.approx(2.0)


def test_half_of_the_known_people_have_templates_between_photo_and_mean() -> None:
    rng = np.random.default_rng(8)
    identity = np.concatenate([np.repeat(np.arange(400), 4), np.arange(400, 600), np.full(200, -1)])
    faces = FaceSet(np.zeros((2000, 1, 1, 3), np.uint8), units(rng, 2000), identity, (), ())
    enrolled = enrolled_templates(faces, np.arange(2000), seed=1)
    np.testing.assert_allclose(np.linalg.norm(enrolled, axis=1), 1, rtol=1e-5)
    moved = np.abs(enrolled - faces.templates).max(1) > 1e-6
    assert 0.4 < moved[:1600].mean() < 0.6
    assert not moved[1600:].any(), "of whom no other photo is known"
