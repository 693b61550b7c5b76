"""Losses, schedules, sampling, augmentation and the configuration file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.ablation import read_ablation
from models.augment import augment
from models.cohort import Cohort, comparable
from models.config import TrainConfig, read_config
from models.faceset import FaceSet, PersonTargets
from models.losses import VerificationLoss, cosine_to_score, same_person, unlike_faces
from models.optimiser import Optimiser
from models.sampling import KcsSampler, spherical_kmeans
from models.schedule import Schedule, one_cycle
from models.spec import mobile_spec
from models.verifier import Trunk
from toolkit.errors import UsageError

ROOT = Path(__file__).parents[2]


def test_schedule_interpolates_and_refuses() -> None:
    schedule = Schedule.parse([[0.0, 1.0], [0.5, 3.0]], "x")
    assert [schedule.at(p) for p in (0, 0.25, 0.5, 1)] == [1.0, 2.0, 3.0, 3.0]
    assert Schedule.parse(2, "x").at(0.7) == 2
    for bad in ("x", [], [[0.5, 1], [0.2, 1]], [[2.0, 1]], True, [[0, 1, 2]]):
        with pytest.raises(UsageError, match="is not a schedule"):
            Schedule.parse(bad, "x")


def test_one_cycle_rises_then_falls() -> None:
    rates = [one_cycle(p, 1.0) for p in np.linspace(0, 1, 101)]
    assert int(np.argmax(rates)) == 10
    assert rates[-1] == pytest.approx(0.01)


def test_same_person_labels() -> None:
    people, rows = torch.tensor([3, 3, 4, -1, -1]), torch.arange(5)
    expected = [
        [1, 1, 0, -1, -1],
        [1, 1, 0, -1, -1],
        [0, 0, 1, -1, -1],
        [-1, -1, -1, 1, -1],
        [-1, -1, -1, -1, 1],
    ]
    assert same_person(people, people, rows, rows).tolist() == expected


def test_loss_terms_against_plain_numpy() -> None:
    loss = VerificationLoss(positive_weight=3.0)
    scores, cosines = torch.tensor([[0.5, -0.2, 0.1]]), torch.tensor([[0.6, 0.1, 0.9]])
    same, personal = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([2.0, 0.0])
    terms = loss(scores, cosines, same, personal, (2.0, 3.0, 1.0, 0.5, 9.0), every_pair=False)
    target = np.clip((cosines.numpy() - 0.25) * 2, -1, 1)
    assert terms.distillation.item() == pytest.approx(((scores.numpy() - target) ** 2).mean(), abs=1e-6)
    p = 1 / (1 + np.exp(-(8 * np.array([0.5, -0.2]) - 1)))
    entropy = (3 * -np.log(p[0]) - np.log(1 - p[1])) / 4  # the unknown pair has no weight
    assert terms.cross_entropy.item() == pytest.approx(entropy, abs=1e-5)
    assert terms.norm.item() == 2.0
    p, q = (np.exp(x) / np.exp(x).sum() for x in ((cosines[0].numpy() - 0.25) * 12, scores[0].numpy() * 6))
    assert terms.ranking.item() == pytest.approx((p * np.log(p / q)).sum(), abs=1e-4)
    expected = 2 * terms.distillation.item() + 3 * terms.ranking.item() + entropy + 0.5 * 2
    assert terms.total.item() == pytest.approx(expected, abs=1e-4), "rows with faces of their own have no cohort"
    assert cosine_to_score(torch.tensor(0.25)).item() == 0.0


def test_strangers_of_the_bank_are_to_treat_all_faces_alike() -> None:
    scores = np.random.default_rng(0).normal(0, [0.2, 0.3, 0.1], (203, 3)).astype(np.float32)
    bank = scores[3:]  # the first are the batch's own templates
    highest = np.sort(bank, 0)[-20:].mean(0)
    unlike = highest.var(ddof=1) + bank.std(0, ddof=1).var(ddof=1)
    assert unlike_faces(torch.from_numpy(bank)).item() == pytest.approx(unlike, rel=1e-4)
    assert unlike_faces(torch.from_numpy(bank / bank.std(0))).item() < unlike
    same, all_pairs = torch.zeros(203, 3), torch.from_numpy(scores)
    terms = VerificationLoss(1.0)(all_pairs, all_pairs, same, torch.ones(1), (0.0, 0.0, 0.0, 0.0, 2.0), every_pair=True)
    assert terms.total.item() == pytest.approx(2 * unlike, rel=1e-4)


@pytest.mark.parametrize("every_pair", [True, False])
def test_margin_softmax_against_plain_numpy(every_pair: bool) -> None:
    """Genuine pairs compete with the impostors of their face's column, or of their person's row."""
    scores = np.random.default_rng(0).normal(0, 0.5, (4, 4)).astype(np.float32)
    same = np.array([[1, 0, 0, -1], [0, 1, 0, 0], [1, 0, 1, 0], [0, -1, 0, 1]], np.float32)
    losses = []
    for u, n in np.argwhere(same == 1):
        line, known = (scores[:, n], same[:, n]) if every_pair else (scores[u], same[u])
        rivals = np.exp(8 * line[known == 0]).sum()
        own = np.exp(8 * (scores[u, n] - 0.35))
        losses.append(-np.log(own / (own + rivals)))
    terms = VerificationLoss(30.0, margin=0.35)(
        torch.from_numpy(scores), torch.zeros(4, 4), torch.from_numpy(same), torch.zeros(1), (0.0, 0.0, 1.0, 0.0, 0.0),
        every_pair,
    )  # fmt: skip
    assert terms.cross_entropy.item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert terms.total.item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_ranking_of_a_batch_against_more_templates_than_its_own() -> None:
    """Each face ranks every template; each of the batch's own templates ranks the batch's faces."""
    g = torch.Generator().manual_seed(0)
    scores, cosines = torch.rand(5, 2, generator=g), torch.rand(5, 2, generator=g)
    same = torch.zeros(5, 2)
    terms = VerificationLoss(1.0)(scores, cosines, same, torch.zeros(1), (1.0, 1.0, 1.0, 1.0, 0.0), every_pair=True)

    def divergence(score: np.ndarray, cosine: np.ndarray) -> float:
        p, q = (np.exp(x) / np.exp(x).sum() for x in ((cosine - 0.25) * 12, score * 6))
        return float((p * np.log(p / q)).sum())

    s, c = scores.numpy(), cosines.numpy()
    by_template = np.mean([divergence(s[u], c[u]) for u in range(2)])
    by_face = np.mean([divergence(s[:, n], c[:, n]) for n in range(2)])
    assert terms.ranking.item() == pytest.approx((by_template + by_face) / 2, abs=1e-5)


def clustered(groups: int = 4, each: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = np.eye(groups, 8)
    rows = np.repeat(centres, each, 0) + rng.normal(0, 0.1, (groups * each, 8))
    identity = np.arange(groups * each) // 3
    identity[::10] = -1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), identity


def test_kmeans_finds_the_groups() -> None:
    templates, _ = clustered()
    labels = spherical_kmeans(templates, 4, seed=1).reshape(4, 30)
    assert all(len(set(group)) == 1 for group in labels.tolist())
    assert len({group[0] for group in labels.tolist()}) == 4


def test_kcs_batches_are_hard_paired_and_repeatable() -> None:
    templates, identity = clustered()
    sampler = KcsSampler(templates, identity, 4, seed=1)
    batch = sampler.batch(40, 1.0, sampler.rng(5))
    assert len(batch) == 40
    anchors, mates = batch[:20], batch[20:]
    assert len(set((anchors // 30).tolist())) == 1, "all anchors come from around one centroid"
    known = identity[anchors] >= 0
    assert (identity[mates[known]] == identity[anchors[known]]).mean() > 0.9
    assert (mates[known] != anchors[known]).all()
    assert np.array_equal(batch, sampler.batch(40, 1.0, sampler.rng(5)))
    assert not np.array_equal(batch, sampler.batch(40, 1.0, sampler.rng(6)))


def test_users_get_own_photos_and_lookalikes() -> None:
    templates, identity = clustered()
    sampler = KcsSampler(templates, identity, 4, seed=1)
    enrol, queries = sampler.users(5, 2, 8, 0.5, sampler.rng(0))
    assert queries.shape == (5, 10)
    assert (identity[queries[:, :2]] == identity[enrol][:, None]).all()
    assert (queries[:, 2:6] // 30 == enrol[:, None] // 30).all(), "half of the impostors are of the same cluster"


def test_augmentation_changes_faces_within_range_and_repeatably() -> None:
    x = torch.full((16, 3, 64, 64), 128.0)
    x[:, :, :32] = 40.0
    a, b = (augment(x, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.shape == x.shape
    assert a.min() >= 0
    assert a.max() <= 255
    assert not torch.equal(a[0], a[1])


def test_a_share_of_the_faces_is_augmented() -> None:
    x = torch.rand(400, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 255
    for share in (0.0, 0.25):
        changed = augment(x, torch.Generator().manual_seed(3), share)
        own = ((changed == x).flatten(1) | (changed == x.flip(3)).flatten(1)).all(1)  # at most mirrored
        assert abs(float((~own).float().mean()) - share) < 0.07


def test_targets_move_toward_the_person() -> None:
    templates = np.eye(4, dtype=np.float32)
    faces = FaceSet(np.zeros((4, 1, 1, 3), np.uint8), templates, np.array([0, 0, 1, -1]), ("",) * 4, ("a", "b"))
    targets, everybody = PersonTargets(faces), np.arange(4)
    assert np.allclose(targets.of(everybody, 0.0), templates)
    half = targets.of(everybody, 0.5)
    assert np.allclose(np.linalg.norm(half, axis=1), 1)
    assert half[0] @ half[1] > 0.5, "two photos of one person come closer"
    assert np.allclose(half[2:], templates[2:]), "a single photo is its person's mean; the unknown keep their own"
    whole = targets.of(np.array([1, 0]), 1.0)
    assert np.allclose(whole[0], whole[1])
    assert np.allclose(templates, np.eye(4)), "the set itself stays as it is"


def test_cosines_normalised_by_a_cohort() -> None:
    """Strangers' cosines with any face get mean 0 and one deviation: T-norm, in closed form."""
    rng = np.random.default_rng(0)
    templates = rng.normal(0.3, np.linspace(0.2, 1, 8), (500, 8))
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    cohort = Cohort.of(templates.astype(np.float32))
    wanted = cohort.as_enrolled(templates) @ cohort.as_shown(templates[:9]).T
    cosines = templates @ templates[:9].T
    np.testing.assert_allclose(wanted.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(wanted / cohort.deviation, (cosines - cosines.mean(0)) / cosines.std(0), atol=1e-4)
    assert cohort.deviation == pytest.approx(np.sqrt(((templates @ templates.T).std(0) ** 2).mean()), rel=1e-4)
    faces = FaceSet(np.zeros((500, 1, 1, 3), np.uint8), templates.astype(np.float32), np.arange(500), (), ())
    targets = PersonTargets(faces).of(np.arange(500), 0.5)
    users, shown = comparable(targets, targets[:9], cohort)
    np.testing.assert_allclose(users @ shown.T, wanted, atol=1e-6)
    assert all(a is b for a, b in zip(comparable(users, shown, None), (users, shown), strict=True))


def test_muon_turns_every_direction_of_a_convolution_alike() -> None:
    spec = mobile_spec(32, 8, ((12, 2),), features=16, half=0)
    trunk = Trunk(spec)
    trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    conv = next(m for m in trunk.convs.values() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1))
    before, others = conv.weight.detach().clone(), [p for p in trunk.parameters() if p is not conv.weight]
    optimiser = Optimiser(trunk, [trunk], rate=0.0, conv_rate=1.0, weight_decay=0.0)
    frozen = [p.detach().clone() for p in others if p.dim() != 4]
    generator = torch.Generator().manual_seed(0)
    uneven = torch.logspace(0, 2, len(before))[:, None, None, None]
    conv.weight.grad = torch.randn(conv.weight.shape, generator=generator) * uneven
    optimiser.step(progress=0.1)  # where the rate is at its peak
    singular = torch.linalg.svdvals((conv.weight - before).flatten(1))
    assert singular.max() / singular.min() < 3, "the gradient's own differ a hundredfold"
    assert all(torch.equal(a, b) for a, b in zip(frozen, (p for p in others if p.dim() != 4), strict=True))


def test_shipped_configurations_are_valid() -> None:
    files = sorted((ROOT / "configs").glob("*.toml"))
    comparisons = [file for file in files if "base" in tomllib.loads(file.read_text())]
    assert len(files) > len(comparisons) > 5
    for file in files:
        assert read_ablation(file) if file in comparisons else read_config(file).faces


def test_settings_that_came_later_leave_the_hash_of_runs_alone() -> None:
    """Or nobody could go on with a run, and the shipped weights' configuration would be another."""
    told = json.loads((ROOT / "models" / "weights" / "h.json").read_text())["training"]
    assert read_config(ROOT / "configs" / told["configuration"]).hash == told["configuration_hash"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('faces = ["a"]\nbatsh = 3', "did you mean batch"),
        ('faces = ["a"]\nbatch = "3"', "wrong type"),
        ("batch = 32", "faces is missing"),
        ('faces = "a"', "a list of names"),
        ('faces = ["a"]\nhard_share = "x"', "is not a schedule"),
        ('faces = ["a"]\ngenerator = "magic"', "head, film, low-rank, full"),
        ('faces = ["a"]\npersonal_steps = 5', "no second stage"),
        ('faces = ["a"]\ngenerator = "full"', "more than 0 with the full"),
        ('faces = ["a"]\nconv_rate = -1', "conv_rate is not possible"),
        ('faces = ["a"]\nbank = 64\ncohort = 1', "less than 100 templates"),
        (
            'faces = ["a"]\ngenerator = "film"\npersonal_steps = 5\nshared_epochs = 0\ncohort = 1',
            "without a shared stage",
        ),
        ('faces = ["a"]\ngenerator = "embedding"\ncohort_targets = true', "false for an embedding"),
        ('faces = ["a"]\ngenerator = "embedding"', r"region = \[0, 0, 112\]"),
        ('faces = ["a"]\nperson_targets = 1.5', "person_targets is not possible"),
        ('faces = ["a"]\naugmentation = [[0.0, 1.0], [1.0, -0.5]]', "augmentation is not possible"),
        ("faces = [", "is not TOML"),
    ],
)
def test_wrong_configurations_say_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_config(file)


def test_config_hash_tells_configurations_apart() -> None:
    assert TrainConfig(("a",)).hash == TrainConfig(("a",)).hash
    assert TrainConfig(("a",)).hash != TrainConfig(("a",), batch=64).hash
