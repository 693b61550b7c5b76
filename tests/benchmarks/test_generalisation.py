"""Training people and others: who is compared with whom, and that what was learned by heart is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import generalisation
from benchmarks.generalisation import Group, half_of, judged, matched, measure, readout
from benchmarks.scoring import FileScorer
from models.faceset import FaceSet
from models.generator import Generator
from toolkit.errors import InputError, UsageError


def people(numbers: list[int], seed: int, families: bool = False, dim: int = 256) -> FaceSet:
    """Noise faces of people with so many photos each, whose templates lie close together."""
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(len(numbers)), numbers)
    templates = rng.normal(size=(len(numbers), dim))[identity] + 0.5 * rng.normal(size=(len(identity), dim))
    templates = (templates / np.linalg.norm(templates, axis=1, keepdims=True)).astype(np.float32)
    pixels = rng.integers(0, 256, (len(identity), 64, 64, 3), np.uint8)
    names = tuple(f"F{p // 2}/{p}" if families else f"{p}" for p in range(len(numbers)))
    return FaceSet(pixels, templates, identity, ("",) * len(identity), names)


def test_people_are_matched_by_photos_and_by_having_relatives() -> None:
    wanted, faces = people([3, 1, 2], 0), people([1, 3, 4, 2, 1, 3], 1)
    allowed = np.array([True, True, True, True, False, False])
    rows = matched(wanted, faces, allowed)
    assert sorted(np.bincount(faces.identity[rows], minlength=6)) == [0, 0, 0, 1, 2, 3]
    assert allowed[faces.identity[rows]].all()
    more = matched(people([9, 9], 0), faces, allowed)
    assert np.bincount(faces.identity[more], minlength=6).tolist() == [0, 3, 4, 0, 0, 0], "those with the most"
    with pytest.raises(InputError, match="fewer than the held-out ones"):
        matched(people([1, 1], 0, families=True), faces, allowed)
    assert len(matched(people([1, 1], 0, families=True), people([2] * 4, 1, families=True), np.ones(4, bool))) == 2


def test_what_was_learned_by_heart_shows_on_others() -> None:
    """Features that say nothing of a face but which one it is: a readout knows those it was taught, nobody else."""
    rng = np.random.default_rng(0)
    taught, others = people([3] * 30, 2), people([3] * 30, 3)
    x = [rng.normal(size=(90, 400)).astype(np.float32) for _ in range(2)]
    anew = readout(x[0], taught.templates)
    found = []
    for faces, seen in zip((taught, others), x, strict=True):
        group = Group(seen, faces.templates, faces.identity)
        strangers = Group(x[0], taught.templates, taught.identity + 1000)
        shown, theirs = (np.concatenate([y, np.ones((90, 1), np.float32)], 1) @ anew for y in (seen, x[0]))
        found.append(judged(faces.templates, shown, group, strangers, theirs))
    assert found[0]["eer"] < 0.05
    assert found[1]["eer"] > 0.4
    assert found[0]["genuine_pairs"] == 30 * 3 * 2
    assert found[0]["impostor_pairs"] == 90 * 87
    assert found[0]["fnmr"]["trials"] == 180


def test_measured_with_the_shipped_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[np.ndarray] = []

    def spied(x: np.ndarray, templates: np.ndarray) -> np.ndarray:
        taught.append(templates)
        return readout(x, templates)

    monkeypatch.setattr(generalisation, "STRANGERS", 20)
    monkeypatch.setattr(generalisation, "readout", spied)
    h, held_out, train = Generator(), people([2] * 6, 4), people([2] * 40, 5)
    result = measure(h, held_out, train)
    assert result["generator"]["sha256"] == h.sha256
    half = half_of(train.people)[train.identity]
    assert 20 < half.sum() < 60
    assert all(np.array_equal(a, b) for a, b in zip(taught, (train.templates, train.templates[half]), strict=True))
    assert set(result["rows"]) == {"backbone", "verifier", "readout anew, all", "readout anew, half"}
    for groups in result["rows"].values():
        assert [g["genuine_pairs"] for g in groups.values()] == [12, 12, 12]
    assert result["rows"]["backbone"]["held out"]["eer"] == 0
    train = replace(train, **{name: np.concatenate([getattr(train, name), getattr(held_out, name)]) for name in
                              ("pixels", "templates")}, identity=np.append(train.identity, [-1] * 12),
                    names=("",) * 92)  # fmt: skip
    renumbered = replace(held_out, identity=held_out.identity + 7, people=(*"abcdefg", *held_out.people))
    assert measure(h, renumbered, train)["rows"] == result["rows"]
    h.info = replace(h.info, generator="film")
    with pytest.raises(UsageError, match="share no trunk"):
        measure(h, held_out, train)


def test_the_verifiers_scores_are_those_of_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    h, held_out, train = Generator(), people([2] * 3, 4), people([2] * 16, 5)
    seen: list[np.ndarray] = []
    monkeypatch.setattr(generalisation, "_rates", lambda scores, group: seen.append(scores) or {})
    measure(h, held_out, train)
    thetas, scorer = h.weights(held_out.templates), FileScorer(h.info.spec, "fp32", "onnxruntime")
    expected = np.stack([scorer.scores(theta, held_out.pixels) for theta in thetas])
    assert seen[1] == pytest.approx(expected, abs=1e-4), "the second of the held-out group's, after the backbone's"


def test_half_of_the_people_has_whole_families() -> None:
    names = tuple(f"F{i // 4}/{i}" for i in range(400))
    half = half_of(names).reshape(100, 4)
    assert (half == half[:, :1]).all()
    assert 30 < half[:, 0].sum() < 70
