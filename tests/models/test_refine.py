"""Personal refinement: what it learns, who judges it, where the scores end up, and that it repeats itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import models.refine
import toolkit.refiner
from benchmarks.enrolling import Generated, Refined
from benchmarks.household import household_trials
from benchmarks.scoring import FileScorer
from models.bank import Bank, BankFaces, open_bank, write_bank
from models.faceset import FaceSet
from models.generator import Generator, fuse_photos
from models.own_view import OwnView, directions
from models.refine import Photos, RefineConfig, Refinement, fits_integers, lose, rarity, refine
from models.strangers import ENOUGH_KNOWN, choose_strangers
from toolkit.errors import MissingError, UsageError

SHIPPED = RefineConfig()
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


def test_rarity_counts_every_genuine_score() -> None:
    impostor = np.arange(999.0)
    genuine = np.array([2000.0, -1.0, 990.0])  # the last one: 990..998 and itself, ten in a thousand
    np.testing.assert_allclose(rarity(genuine, impostor), [3, 0, 2])


def test_photos_lose_only_beyond_doubt() -> None:
    before = np.array([2.0, 2.5, 3.0, 2.0])
    assert lose(before, before - 0.1)
    assert not lose(before, before)
    assert not lose(before, before + 0.1)
    assert not lose(before, before + np.array([0.5, -0.6, 0.4, -0.5])), "within a standard error"
    assert lose(before, before + np.array([0.1, -0.6, -0.4, -0.5]))
    assert lose(before[:2], before[:2] + np.array([0.2, -1.5])), "two photos cannot say how far they are in doubt"


def test_weights_that_integers_cannot_hold_are_noticed(h: Generator, person: tuple[np.ndarray, np.ndarray]) -> None:
    theta = h.weights(person[1][:1])[0]
    assert fits_integers(h.info.spec, theta)
    for wrong in (theta * 1000, np.full_like(theta, np.nan)):
        assert not fits_integers(h.info.spec, wrong)


def test_refinement_repeats_itself(h: Generator, bank: Bank, person: tuple[np.ndarray, np.ndarray]) -> None:
    scorer = FileScorer(h.info.spec, "int8", "litert")
    threads = torch.get_num_threads()
    one, two = (refine(h, *person, bank, scorer.scores, SHIPPED) for _ in range(2))
    assert torch.get_num_threads() == threads
    np.testing.assert_array_equal(one.theta, two.theta)
    assert one.to_dict() == two.to_dict()
    assert json.dumps(one.to_dict())
    other = refine(h, *person, bank, scorer.scores, replace(SHIPPED, seed=2))
    assert not np.array_equal(one.theta, other.theta)


@pytest.mark.parametrize("refused", [True, False])
def test_the_last_layer_alone_learns_unless_photos_kept_apart_lose(
    refused: bool,
    h: Generator,
    bank: Bank,
    person: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    template = fuse_photos(*person, h.info.spec.framing)
    start = h.weights(template[None])[0]
    shown = bank.pixels(choose_strangers(bank, template, h.info.backbone, SHIPPED.seed).judging)
    scored: list[tuple[np.ndarray, np.ndarray]] = []
    monkeypatch.setattr(models.refine, "lose", lambda before, after: refused)

    def score(theta: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        scored.append((theta, pixels))
        return np.linspace(-1, 0.5, len(pixels))

    done = refine(h, *person, bank, score, SHIPPED)
    assert done.kept != refused
    np.testing.assert_array_equal(scored[-1][0], done.theta)
    np.testing.assert_array_equal(scored[-1][1], shown)
    stated = h.info.points_for(len(person[0]))[1]
    passing = {name: (np.linspace(-1, 0.5, len(shown)) >= p.threshold).mean() for name, p in stated.items()}
    assert (done.fmr, done.strangers) == (passing, len(shown))
    assert 0 < done.fmr["fmr1e-2"] < 1
    assert ("stay" in done.sentence()) == refused
    changed = np.flatnonzero(done.theta != start)
    if refused:
        assert not len(changed)
    else:
        assert changed.min() >= h.info.spec.slots[f"{h.info.spec.head.name}.weight"].offset


def test_lookalikes_score_on_average_what_they_did(
    h: Generator, bank: Bank, person: tuple[np.ndarray, np.ndarray]
) -> None:
    template = fuse_photos(*person, h.info.spec.framing)
    theta, known = h.weights(template[None])[0], choose_strangers(bank, template, h.info.backbone, 1).known
    scorer = FileScorer(h.info.spec, "fp32", "onnxruntime")
    refined = Photos(h, theta, template, person[0], bank, known).added_to(theta, 30.0)  # made-up people have little
    biased = refined.copy()
    biased[-1] = theta[-1]
    alike = known[np.argsort(-(bank.templates[known] @ template))[: math.ceil(0.03 * len(known))]]
    before, unmoved, after = (scorer.scores(t, bank.pixels(alike)).mean() for t in (theta, biased, refined))
    assert abs(unmoved - before) > 0.01
    assert after == pytest.approx(before, abs=1e-4)


def test_each_photo_is_judged_by_what_the_others_gave(
    h: Generator, bank: Bank, person: tuple[np.ndarray, np.ndarray]
) -> None:
    template = fuse_photos(*person, h.info.spec.framing)
    strangers = choose_strangers(bank, template, h.info.backbone, 1)
    theta, judging = h.weights(template[None])[0], bank.pixels(strangers.judging)
    scorer = FileScorer(h.info.spec, "fp32", "onnxruntime")
    generated, refined = Photos(h, theta, template, person[0], bank, strangers.known).judged(judging, 1.0)
    for j in range(len(person[0])):
        others = np.delete(person[0], j, 0)
        changed = Photos(h, theta, template, others, bank, strangers.known).added_to(theta, 1.0)
        for weights, said in ((theta, generated), (changed, refined)):
            expected = rarity(scorer.scores(weights, person[0][[j]]), scorer.scores(weights, judging))
            assert said[j] == pytest.approx(expected[0], abs=0.05)
    assert not np.array_equal(generated, refined)


def test_a_bank_of_few_known_people_teaches_nothing(
    h: Generator, bank: Bank, person: tuple[np.ndarray, np.ndarray]
) -> None:
    few = replace(bank, identity=np.where(bank.identity < ENOUGH_KNOWN // 2, bank.identity, -1))
    scorer = FileScorer(h.info.spec, "int8", "litert")
    done = refine(h, *person, few, scorer.scores, SHIPPED)
    assert (done.kept, done.generated) == (False, None)
    assert f"names some {ENOUGH_KNOWN} people" in done.sentence()
    np.testing.assert_array_equal(done.theta, h.weights(fuse_photos(*person, h.info.spec.framing)[None])[0])


class World:
    """Made-up people whose looks are their template's, something of their own, `own` times, and each photo's."""

    def __init__(self, own: float, people: int = 400, each: int = 3, dim: int = 8, axes: int = 16):
        rng = np.random.default_rng(0)
        self.looks = rng.normal(size=(dim, axes))
        self.noise = np.geomspace(0.2, 2, axes)  # of each photo
        self.template = unit_rows(1, dim, 2)[0]
        number = np.repeat(np.arange(people), each)
        templates = unit_rows(people, dim, 1)[number]
        someones = own * rng.normal(size=(people, axes))
        z = templates @ self.looks + 3 + someones[number] + self.noise * rng.normal(size=(len(number), axes))
        shown = templates + 0.05 * rng.normal(size=templates.shape)
        shown /= np.linalg.norm(shown, axis=1, keepdims=True)
        self.view = OwnView(torch.from_numpy(z), torch.from_numpy(shown), torch.from_numpy(number))

    def addition(self, count: int, own: np.ndarray, times: float = 1.0) -> np.ndarray:
        """What so many photos of one more person add to a last layer `times` as large as a linear discriminant is."""
        rng = np.random.default_rng(3)
        photos = self.template @ self.looks + 3 + own + self.noise * rng.normal(size=(count, len(own)))
        head = times * (self.template @ self.looks) / self.noise**2
        return self.view.addition(*(torch.from_numpy(v) for v in (photos, self.template, head))).numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_what_is_a_persons_own_is_found_again() -> None:
    world = World(own=0.5)
    own = 0.5 * np.random.default_rng(4).normal(size=16)
    few, many = world.addition(2, own), world.addition(2000, own)
    wanted = own / (world.noise**2 + 0.1 * (world.noise**2).mean())  # where photos of one person differ, it says little
    assert cosine(many, wanted) > 0.95
    assert cosine(many, own) < 0.9
    assert cosine(few, wanted) > 0.7
    assert np.linalg.norm(few) < np.linalg.norm(many), "few photos are trusted less"
    np.testing.assert_allclose(world.addition(2, own, times=3.0), 3 * few, rtol=1e-6)
    np.testing.assert_array_equal(world.addition(2, own, times=-1.0), 0 * few)


def test_nothing_is_taken_for_a_persons_own_where_nobody_has_any() -> None:
    nobody, somebody = (np.linalg.norm(World(own).addition(2, np.full(16, 0.5))) for own in (0.0, 0.5))
    assert nobody < 0.2 * somebody


def test_photos_that_are_all_one_do_no_harm() -> None:
    templates, number = torch.from_numpy(unit_rows(300, 8, 1)), torch.arange(300).repeat(2)
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 4)))
    added = OwnView(z.repeat(2, 1), templates.repeat(2, 1), number).addition(z[:2], templates[0], z[0])
    assert torch.isfinite(added).all()


def test_directions_are_those_that_heads_read() -> None:
    rng = np.random.default_rng(0)
    heads = torch.from_numpy(rng.normal(size=(40, 3)) @ rng.normal(size=(3, 100)))
    basis = directions(heads)
    assert basis.shape == (100, 3)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(heads @ basis @ basis.T, heads, atol=1e-9)


def test_one_photo_teaches_nothing(h: Generator, bank: Bank, person: tuple[np.ndarray, np.ndarray]) -> None:
    scorer = FileScorer(h.info.spec, "int8", "litert")
    done = refine(h, person[0][:1], person[1][:1], bank, scorer.scores, SHIPPED)
    assert (done.kept, done.generated) == (False, None)
    assert "takes two photos" in done.sentence()
    np.testing.assert_array_equal(done.theta, h.weights(person[1][:1])[0])


def test_wrong_settings_and_a_missing_torch_say_so(
    h: Generator, bank_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in (-0.1, 0, 1.5):
        with pytest.raises(UsageError, match="refinement's share"):
            RefineConfig(share=wrong)
    assert toolkit.refiner.load_refiner(h, None) is None
    monkeypatch.setattr(toolkit.refiner, "find_spec", lambda name: None if name == "torch" else True)
    with pytest.raises(MissingError, match=r"needs torch; run `pip install 'hyperverify\[refine\]'`"):
        toolkit.refiner.load_refiner(h, bank_file)


def test_household_enrols_with_whatever_it_is_given(h: Generator) -> None:
    side, dim = h.info.spec.input_px, h.template_dim
    faces = FaceSet(pictures(6, 1, side), unit_rows(6, dim, 1), np.array([0, 0, 0, 1, 1, 1]), ("",) * 6, ("a", "b"))
    scorer = FileScorer(h.info.spec, "int8", "litert")
    seen = []

    def refiner(pixels: np.ndarray, templates: np.ndarray) -> Refinement:
        seen.append((pixels, templates))
        return Refinement(Generated(h)(pixels, templates), 2, False, None, None, {}, 0, 0)

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
        assert "refined: strangers as like as a photo kept apart" in done.err
    manifests = [(tmp_path / out / "obama.hvb" / "manifest.json").read_text() for out in ("one", "two")]
    assert manifests[0] == manifests[1]
    assert json.loads(manifests[0])["generator"]["refinement"] == done.json["refinement"]
    assert done.json["refinement"]["bank_faces"] == STRANGERS
    assert toolkit("verify", tmp_path / "one" / "obama.hvb", photos / "obama.jpg").code in (0, 10)
    assert toolkit("enroll", "x", *files, "--refine", tmp_path / "no").code == 4
    (tmp_path / "junk").write_bytes(b"junk")
    done = toolkit("enroll", "x", *files, "--refine", tmp_path / "junk", "--json")
    assert (done.code, done.json["error"]["type"]) == (7, "ArtifactError")
