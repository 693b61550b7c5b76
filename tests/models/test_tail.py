"""Where strangers' highest scores lie is found by counting, and learned well enough to be said of a new template."""

from __future__ import annotations

import numpy as np
import pytest

from models.faceset import FaceSet
from models.tail import SHARE, enrolled_templates, highest_strangers, learn_tail

DIM = 16


def units(rng: np.random.Generator, count: int) -> np.ndarray:
    drawn = rng.normal(size=(count, DIM))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def place(templates: np.ndarray) -> np.ndarray:
    """No line or moment of the template says it."""
    return np.asarray(2.5 + np.abs(templates[:, 0]) * DIM**0.5 / 4)


def test_the_highest_strangers_are_counted_without_the_own_face() -> None:
    y = np.arange(1000, dtype=np.float32)[:, None]
    same = np.zeros((2, 1000), bool)
    same[1, 500:] = True
    assert SHARE == 0.01
    # The tenth highest of a thousand, and the fifth of the five hundred that are left.
    assert highest_strangers(np.ones((2, 1), np.float32), y, same).tolist() == [990, 495]


def test_what_is_learned_holds_for_new_templates() -> None:
    rng = np.random.default_rng(5)
    known, new = units(rng, 8192), units(rng, 500)
    tail = learn_tail(known, place(known), seed=1)
    left = np.var(tail.of(new) - place(new)) / np.var(place(new))
    assert left < 0.2, f"{left:.0%} of the variance is not explained"
    again = learn_tail(known, place(known), seed=1)
    assert (again.first.tobytes(), again.last.tobytes()) == (tail.first.tobytes(), tail.last.tobytes())


def test_nothing_is_said_beyond_what_was_learned_from() -> None:
    rng = np.random.default_rng(6)
    known = units(rng, 512)
    tail = learn_tail(known, place(known), seed=1)
    said = tail.of(1000 * units(rng, 50))
    assert place(known).min() <= said.min() < said.max() <= place(known).max()


def test_few_people_who_are_all_alike_are_no_error() -> None:
    rng = np.random.default_rng(7)
    known = units(rng, 3)
    assert learn_tail(known, np.full(3, 2.0), seed=1).of(known) == pytest.approx(2.0)


def test_half_of_the_known_people_have_templates_between_photo_and_mean() -> None:
    rng = np.random.default_rng(8)
    identity = np.concatenate([np.repeat(np.arange(400), 4), np.arange(400, 600), np.full(200, -1)])
    faces = FaceSet(np.zeros((2000, 1, 1, 3), np.uint8), units(rng, 2000), identity, (), ())
    enrolled = enrolled_templates(faces, np.arange(2000), seed=1)
    np.testing.assert_allclose(np.linalg.norm(enrolled, axis=1), 1, rtol=1e-5)
    moved = np.abs(enrolled - faces.templates).max(1) > 1e-6
    assert 0.4 < moved[:1600].mean() < 0.6
    assert not moved[1600:].any(), "of whom no other photo is known"
