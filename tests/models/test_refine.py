"""Personal refinement: what it trains, who judges it, where the scores end up, and that it repeats itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import toolkit.refiner
from benchmarks.enrolling import Generated, Refined
from benchmarks.household import household_trials
from benchmarks.scoring import FileScorer
from models.bank import Bank, BankFaces, open_bank, write_bank
from models.faceset import FaceSet
from models.generator import Generator, OperatingPoint, fuse_photos, fuse_templates
from models.refine import (
    MIN_ERRORS,
    RefineConfig,
    Refinement,
    first_trained,
    fits_integers,
    held_out_photo,
    move_scores,
    rarity,
    refine,
)
from models.spec import DEFAULT_SPEC, VerifierSpec, mobile_spec
from models.verifier import run_layers, to_input, verify_users
from toolkit.errors import MissingError, UsageError

QUICK = RefineConfig(steps=3, views=8)
STRANGERS = 2600


def pictures(count: int, seed: int, side: int) -> np.ndarray:
    """Smooth random pictures uint8 [N, side, side, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 7, 7, 3), np.uint8)
    return np.stack([cv2.resize(c, (side, side), interpolation=cv2.INTER_CUBIC) for c in coarse])


def unit_rows(count: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def h() -> Generator:
    return Generator()


@pytest.fixture(scope="module")
def bank_file(h: Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, info = tmp_path_factory.mktemp("bank") / "strangers.bank", h.info
    people = [f"p{i // 2}" for i in range(STRANGERS)]
    block = BankFaces(pictures(STRANGERS, 1, info.spec.input_px), unit_rows(STRANGERS, h.template_dim, 2), people)
    write_bank(path, [block], info.spec, info.backbone, info.backbone_sha256)
    return path


@pytest.fixture(scope="module")
def bank(h: Generator, bank_file: Path) -> Bank:
    return open_bank(bank_file, h.info.spec, h.info.backbone, h.info.backbone_sha256)


@pytest.fixture(scope="module")
def person(h: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Four photos of one person and their templates."""
    templates = unit_rows(1, h.template_dim, 3) * 0.8 + unit_rows(4, h.template_dim, 4) * 0.6
    return pictures(4, 5, h.info.spec.input_px), templates / np.linalg.norm(templates, axis=1, keepdims=True)


@pytest.mark.parametrize("spec", [DEFAULT_SPEC, mobile_spec(input_px=48, blocks=((16, 2), (16, 1), (16, 1)), half=0)])
def test_the_two_stretches_of_layers_are_the_whole_verifier(spec: VerifierSpec) -> None:
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(1, spec.params, generator=generator) * 0.1
    x = torch.rand(3, 3, spec.input_px, spec.input_px, generator=generator) * 2 - 1
    whole = verify_users(spec, theta, x[None])
    weighted = [layer.name for layer in spec.layers if layer.weighted]
    for count in range(1, len(weighted) + 3):
        first = first_trained(spec, count)
        assert {layer.name for layer in spec.layers[first:]} >= set(weighted[-count:])
        inside = run_layers(spec, theta, x, 0, first)
        assert torch.equal(verify_users(spec, theta, inside[None], first), whole)
    assert first_trained(spec, 1) == len(spec.layers) - 1


def test_rarity_counts_every_genuine_score() -> None:
    impostor = np.arange(999.0)
    assert rarity(np.array([2000.0]), impostor) == pytest.approx(3)
    assert rarity(np.array([-1.0]), impostor) == pytest.approx(0)
    assert rarity(np.array([2000.0, -1.0]), impostor) == pytest.approx(1.5)
    assert rarity(np.array([990.0]), impostor) == pytest.approx(2)  # 990..998 and itself: ten in a thousand


def test_the_photo_kept_apart_is_a_middling_one() -> None:
    templates = np.array([[1, 0.0], [1, 0.1], [1, 0.2], [1, 3.0]], np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    held, rest = held_out_photo(templates)
    order = np.argsort(templates @ fuse_templates(templates))
    assert held not in (order[0], order[-1])
    assert sorted([held, *rest]) == [0, 1, 2, 3]


def points(*pairs: tuple[float, float]) -> dict[str, OperatingPoint]:
    return {f"p{fmr}": OperatingPoint(f"p{fmr}", t, fmr, 0.1, 10_000, 100, 10) for fmr, t in pairs}


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.5, 0.5), st.floats(0.05, 0.5), st.integers(1, 1000))
def test_moved_scores_pass_the_loosest_threshold_as_often_as_stated(mean: float, spread: float, seed: int) -> None:
    """Strangers pass the loosest threshold as often as it says, and nothing but the last bias changes."""
    count, spec = 8000, DEFAULT_SPEC
    scores = np.random.default_rng(seed).normal(mean, spread, count)
    stated = points((1e-2, 0.3), (1e-3, 0.45), (1e-4, 0.55))
    theta = np.random.default_rng(seed).standard_normal(spec.params).astype(np.float32) * 0.1
    moved = move_scores(spec, theta, scores, stated)
    bias = spec.slots[f"{spec.head.name}.bias"].offset
    shift = float(moved[bias]) - float(theta[bias])
    x = torch.rand(2, 3, spec.input_px, spec.input_px, generator=torch.Generator().manual_seed(seed))
    before, after = (verify_users(spec, torch.from_numpy(t)[None], x[None])[0].double().numpy() for t in (theta, moved))
    np.testing.assert_allclose(after, before + shift, atol=1e-4 * max(1, np.abs(after).max()))
    assert (scores + shift >= 0.3).sum() == pytest.approx(0.01 * count, abs=2)
    np.testing.assert_array_equal(np.delete(theta, bias), np.delete(moved, bias))


def test_weights_that_integers_cannot_hold_are_noticed(h: Generator, person: tuple[np.ndarray, np.ndarray]) -> None:
    theta = h.weights(person[1][:1])[0]
    assert fits_integers(h.info.spec, theta)
    for wrong in (theta * 1000, np.full_like(theta, np.nan)):
        assert not fits_integers(h.info.spec, wrong)


def test_strangers_too_few_to_say_move_nothing() -> None:
    theta, stated = np.ones(DEFAULT_SPEC.params, np.float32), points((1e-3, 0.45))
    few, enough = (np.linspace(-0.5, 0.1, round(count * 1e3)) for count in (MIN_ERRORS - 1, MIN_ERRORS))
    np.testing.assert_array_equal(move_scores(DEFAULT_SPEC, theta, few, stated), theta)
    assert move_scores(DEFAULT_SPEC, theta, enough, stated)[-1] > 1
    np.testing.assert_array_equal(move_scores(DEFAULT_SPEC, theta, enough, {}), theta)


def test_refinement_repeats_itself_and_keeps_the_thresholds(
    h: Generator, bank: Bank, person: tuple[np.ndarray, np.ndarray]
) -> None:
    scorer = FileScorer(h.info.spec, "int8", "litert")
    threads = torch.get_num_threads()
    one, two = (refine(h, *person, bank, scorer.scores, QUICK) for _ in range(2))
    assert torch.get_num_threads() == threads
    np.testing.assert_array_equal(one.theta, two.theta)
    assert one.to_dict() == two.to_dict()
    assert json.dumps(one.to_dict())
    assert one.steps == 3
    assert one.kept == (one.trained > one.generated)
    # Strangers that neither trained nor moved the scores: about five of five hundred.
    assert one.fmr["fmr1e-2"] == pytest.approx(0.01, abs=0.015)
    other = refine(h, *person, bank, scorer.scores, replace(QUICK, seed=2))
    assert not np.array_equal(one.theta, other.theta)


@pytest.mark.parametrize("better", [True, False])
def test_training_is_kept_only_if_the_faces_kept_apart_gain(
    better: bool, h: Generator, bank: Bank, person: tuple[np.ndarray, np.ndarray]
) -> None:
    """The judge sees the photo that was not trained on, and its verdict alone decides."""
    start = h.weights(fuse_photos(*person, h.info.spec.framing)[None])[0]

    def score(theta: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        if len(pixels) > 100:  # strangers
            return np.linspace(-1, 0.5, len(pixels))
        return np.full(len(pixels), 0.4 if better != np.array_equal(theta, start) else 0.2)

    done = refine(h, *person, bank, score, replace(QUICK, move=False))
    assert done.kept == better
    assert np.array_equal(done.theta, start) == (not better)
    assert ("stay" in done.sentence()) == (not better)


def test_targets_are_those_that_the_generator_was_taught(bank: Bank, person: tuple[np.ndarray, np.ndarray]) -> None:
    from models.refine import training_faces
    from models.strangers import choose_strangers

    template = fuse_photos(*person, DEFAULT_SPEC.framing)
    strangers = choose_strangers(bank, template, "sface", 1)
    rows = np.concatenate([strangers.similar, strangers.random])
    plain, alike = (
        training_faces(*person, template, bank, strangers, cohort, QUICK).cosines.numpy()[QUICK.views :]
        for cohort in (None, bank.cohort)
    )
    np.testing.assert_allclose(plain, bank.templates[rows] @ template, atol=1e-6)
    deviations = np.std(bank.templates @ bank.templates.T, 0)[rows]
    expected = (plain - bank.templates[rows] @ bank.cohort.mean) / deviations
    np.testing.assert_allclose(alike / bank.cohort.deviation, expected, atol=1e-3)


def test_training_moves_scores_towards_its_targets(
    h: Generator, bank: Bank, person: tuple[np.ndarray, np.ndarray]
) -> None:
    """More steps separate the training faces further; the first layers stay as generated."""
    from models.refine import train, training_faces
    from models.strangers import choose_strangers

    template = fuse_photos(*person, h.info.spec.framing)
    strangers = choose_strangers(bank, template, h.info.backbone, 1)
    config = replace(QUICK, steps=40, layers=2)
    faces = training_faces(person[0], person[1], template, bank, strangers, None, config)
    start = h.weights(template[None])[0]
    trained, steps = train(h, start, faces, 0.4, config)
    assert steps == 40
    spec = h.info.spec

    @torch.no_grad()
    def gap(theta: np.ndarray) -> float:
        x = to_input(torch.from_numpy(faces.pixels[:300]).permute(0, 3, 1, 2))
        scores = verify_users(spec, torch.from_numpy(theta)[None], x[None])[0].numpy()
        return float(scores[:8].mean() - scores[8:].mean())

    assert gap(trained) > gap(start) + 0.1
    first = spec.layers[first_trained(spec, 2)].name
    frozen = slice(0, spec.slots[f"{first}.weight"].offset)
    np.testing.assert_array_equal(trained[frozen], start[frozen])
    _, stopped = train(h, start, faces, 0.4, replace(config, steps=100_000, seconds=0.3))
    assert stopped < 100_000


def test_one_photo_trains_nothing(h: Generator, bank: Bank, person: tuple[np.ndarray, np.ndarray]) -> None:
    scorer = FileScorer(h.info.spec, "int8", "litert")
    done = refine(h, person[0][:1], person[1][:1], bank, scorer.scores, QUICK)
    assert (done.kept, done.steps, done.generated) == (False, 0, None)
    assert "two photos or more" in done.sentence()
    start = h.weights(person[1][:1])[0]
    changed = np.flatnonzero(done.theta != start)
    assert changed.min() >= h.info.spec.slots[f"{h.info.spec.head.name}.weight"].offset


def test_wrong_settings_and_a_missing_torch_say_so(
    h: Generator, bank_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ({"layers": 0}, {"steps": -1}, {"seconds": -1.0}):
        with pytest.raises(UsageError, match="refinement's"):
            RefineConfig(**wrong)
    assert toolkit.refiner.load_refiner(h, None, 0) is None
    with pytest.raises(UsageError, match="without --refine"):
        toolkit.refiner.load_refiner(h, None, 3)
    monkeypatch.setattr(toolkit.refiner, "find_spec", lambda name: None if name == "torch" else True)
    with pytest.raises(MissingError, match=r"needs torch; run `pip install 'hyperverify\[refine\]'`"):
        toolkit.refiner.load_refiner(h, bank_file, 0)


def test_household_enrols_with_whatever_it_is_given(h: Generator) -> None:
    side, dim = h.info.spec.input_px, h.template_dim
    faces = FaceSet(pictures(6, 1, side), unit_rows(6, dim, 1), np.array([0, 0, 0, 1, 1, 1]), ("",) * 6, ("a", "b"))
    scorer = FileScorer(h.info.spec, "int8", "litert")
    seen = []

    def refiner(pixels: np.ndarray, templates: np.ndarray) -> Refinement:
        seen.append((pixels, templates))
        return Refinement(Generated(h)(pixels, templates), False, 0, None, None, {}, 0, 0)

    plain, given_ = (household_trials(faces, way, scorer, 2) for way in (Generated(h), Refined(refiner)))
    np.testing.assert_array_equal(plain.impostor, given_.impostor)
    np.testing.assert_array_equal(seen[1][0], faces.pixels[3:5])
    np.testing.assert_array_equal(seen[1][1], faces.templates[3:5])


def test_enroll_refine_writes_a_bundle_that_says_so(
    toolkit: Callable[..., object], bank_file: Path, photos: Path, tmp_path: Path
) -> None:
    """Twice the same bytes; the manifest names what was done; a missing bank is told before any work."""
    files = [photos / f"{name}.jpg" for name in ("obama", "obama2", "obama3")]
    for out in ("one", "two"):
        done = toolkit("enroll", "obama", *files, "--refine", bank_file, "--out", tmp_path / out, "--json")
        assert done.code == 0, done.err
        assert "refined: strangers as like as the photo kept apart" in done.err
    manifests = [(tmp_path / out / "obama.hvb" / "manifest.json").read_text() for out in ("one", "two")]
    assert manifests[0] == manifests[1]
    assert json.loads(manifests[0])["generator"]["refinement"] == done.json["refinement"]
    assert done.json["refinement"]["bank_faces"] == STRANGERS
    assert toolkit("verify", tmp_path / "one" / "obama.hvb", photos / "obama.jpg").code in (0, 10)
    assert toolkit("enroll", "x", *files, "--refine", tmp_path / "no").code == 4
    (tmp_path / "junk").write_bytes(b"junk")
    done = toolkit("enroll", "x", *files, "--refine", tmp_path / "junk", "--json")
    assert (done.code, done.json["error"]["type"]) == (7, "ArtifactError")
