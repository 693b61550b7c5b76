"""Ablation files: read strictly, run once a variant, told in one table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests_support import WHOLE_FACE

from models.ablation import Variant, read_ablation, run_ablation, table
from models.hypernetwork import GENERATORS
from models.spec import DEFAULT_SPEC, MAX_FLOPS, MAX_PARAMS, mobile_spec
from models.validate import Validation
from toolkit.errors import UsageError

BASE = 'faces = ["faces"]\nshared_epochs = 30\n'
TWO = """base = "base.toml"
common = { shared_epochs = 1 }
[[variant]]
name = "default"
[[variant]]
name = "pooled"
about = "one value a feature"
verifier = { pooled = true, half = 0 }
"""
SEARCH = """base = "base.toml"
[search]
trials = 2
seed = 1
least_params = 0
verifier = { input_px = [56, 64], half = [40], blocks = [[[16, 2], [16, 1], [24, 2]]] }
"""


def written(folder: Path, text: str) -> Path:
    (folder / "base.toml").write_text(BASE)
    path = folder / "ablation.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("name", "default"), [("forms", -1), ("ablations", 0)])
def test_the_committed_ablations_start_from_the_form_they_were_made_with(name: str, default: int) -> None:
    variants = read_ablation(Path(f"configs/{name}.toml"))
    assert variants[default].config.verifier == WHOLE_FACE
    assert len({v.config.shared_epochs for v in variants}) == 1, "one budget for all"
    assert all(v.config.verifier.flops <= 5_000_000 for v in variants)


def test_the_committed_generators_see_equally_many_faces() -> None:
    variants = {v.config.generator: v.config for v in read_ablation(Path("configs/generators.toml"))}
    assert tuple(variants) == GENERATORS
    budget = variants["head"].shared_epochs * 74_655  # faces of the training set
    for name in GENERATORS[1:]:
        c = variants[name]
        assert c.personal_steps * c.users * (c.genuine + c.impostors) == pytest.approx(budget, rel=0.01)


def test_the_committed_runs_further_see_equally_many_faces() -> None:
    """Blends beside the photos that the first rows of docs/results/further.json were trained on."""
    photos = 74_655
    for variant in read_ablation(Path("configs/further.toml")):
        faces = variant.config.shared_epochs * (photos + variant.config.blends)
        assert faces == pytest.approx(4 * photos, rel=1e-4), variant.name


def test_the_committed_views_differ_in_what_is_shown() -> None:
    variants = {v.name: v.config.verifier for v in read_ablation(Path("configs/views.toml"))}
    assert variants["halves-36"] == DEFAULT_SPEC
    assert variants["whole"] == WHOLE_FACE
    assert variants["region"].layers == variants["whole"].layers
    assert variants["region"].region == DEFAULT_SPEC.region
    assert variants["halves-32"].layers[1] == DEFAULT_SPEC.layers[1], "the same stem"
    assert all(form.flops <= MAX_FLOPS and form.params <= MAX_PARAMS for form in variants.values())


def test_the_committed_joins_keep_to_both_budgets_and_differ_in_what_they_spend() -> None:
    variants = {v.name: v.config for v in read_ablation(Path("configs/joined.toml"))}
    score, joined = variants["score"].verifier, variants["joined"].verifier
    assert joined.params == score.params, "the same layers"
    assert joined.macs < 0.81 * score.macs
    assert variants["wide-branches"].verifier == variants["wide"].verifier
    assert [name for name, config in variants.items() if config.branches > 1] == ["wide-branches"]
    assert all(c.verifier.flops <= MAX_FLOPS and c.verifier.params <= MAX_PARAMS for c in variants.values())


def test_the_committed_cohorts_differ_in_nothing_else() -> None:
    variants = {v.name: v.config for v in read_ablation(Path("configs/alike.toml"))}
    plain = variants.pop("as-before")
    assert [c.cohort.at(0.5) for c in variants.values()] == [0.0, 10.0, 50.0, 300.0]
    assert {replace(c, cohort=plain.cohort, cohort_targets=False) for c in variants.values()} == {plain}


def test_the_committed_search_draws_different_forms_within_the_budgets() -> None:
    trials = read_ablation(Path("configs/search.toml"))
    assert len({trial.config.verifier.hash for trial in trials}) == len(trials) == 24
    assert all(18_000 <= t.config.verifier.params <= 23_000 for t in trials)
    assert all(t.config.verifier.flops <= 5_000_000 for t in trials)
    assert {layer.kernel for t in trials for layer in t.config.verifier.layers} >= {3, 5}
    assert trials == read_ablation(Path("configs/search.toml")), "drawn the same every time"


def test_a_search_is_told_best_first(tmp_path: Path) -> None:
    trials = read_ablation(written(tmp_path, SEARCH))
    rates = {"trial-01": 0.2, "trial-02": 0.1}
    results = run_ablation(trials, tmp_path / "out", lambda v, _: (Validation(rates[v.name], 0.5, 0.25), 10))
    names = [line.split(" | ")[0] for line in table(results).splitlines()[2:]]
    assert names == ["| trial-02", "| trial-01"]
    assert (tmp_path / "out" / "ablation.md").read_text() == table(results) + "\n"
    assert {t.about for t in trials} == {f"input_px {px}, half 40, blocks 16/2 16 24/2" for px in (56, 64)}


def test_variants_share_what_is_common_and_differ_in_their_own(tmp_path: Path) -> None:
    default, pooled = read_ablation(written(tmp_path, TWO))
    assert default.config.shared_epochs == pooled.config.shared_epochs == 1.0
    assert default.config.verifier == DEFAULT_SPEC
    assert pooled.config.verifier.layers[-2].name == "pool"
    assert default.config.hash != pooled.config.hash


def test_of_the_verifiers_form_only_what_is_named_changes(tmp_path: Path) -> None:
    text = TWO.replace("{ shared_epochs = 1 }", "{ verifier = { stem = 12, half = 0 } }")
    text = text.replace("pooled = true, half = 0", "pooled = true")
    default, pooled = (v.config.verifier for v in read_ablation(written(tmp_path, text)))
    assert default == mobile_spec(stem=12, half=0)
    assert pooled == mobile_spec(stem=12, half=0, pooled=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TWO.replace(", half = 0", ""), "set half = 0"),
        ("base = 'base.toml'", "is not an ablation"),
        (TWO + "[typo]", "is not an ablation"),
        (TWO.replace('"pooled"', '"default"'), "two variants have one name"),
        (TWO.replace('"pooled"', '"../up"'), "name is not possible"),
        (TWO.replace("pooled = true", "poled = true"), "verifier is not possible"),
        (TWO.replace("pooled = true", "blocks = [[16]]"), "verifier is not possible"),
        (TWO.replace("pooled = true", "blocks = 3"), "verifier is not possible"),
        (TWO.replace("pooled = true", "joined = 'no'"), r"verifier\.joined has the wrong type; got no; expected bool"),
        (SEARCH + TWO[TWO.index("[[") :], "is not an ablation"),
        (SEARCH.replace("seed = 1", "sed = 1"), "search is not possible"),
        (SEARCH.replace("[56, 64]", "56"), "search.verifier is not possible"),
        (SEARCH.replace("trials = 2", "trials = 3"), "too few forms keep to the budgets; got 2"),
        (SEARCH.replace("input_px", "inputs_px"), "verifier is not possible"),
    ],
)
def test_mistakes_in_the_file_are_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read_ablation(written(tmp_path, text))


def test_a_finished_variant_is_not_trained_again(tmp_path: Path) -> None:
    variants, trained = read_ablation(written(tmp_path, TWO)), []

    def train(variant: Variant, folder: Path) -> tuple[Validation, int]:
        trained.append(variant.name)
        if trained == ["default", "pooled"]:
            raise KeyboardInterrupt
        return Validation(0.1, 0.5, 0.25), 1000

    with pytest.raises(KeyboardInterrupt):
        run_ablation(variants, tmp_path / "out", train)
    results = run_ablation(variants, tmp_path / "out", train)
    assert trained == ["default", "pooled", "pooled"]
    assert (tmp_path / "out" / "ablation.json").is_file()
    lines = table(results).splitlines()
    assert lines[3].startswith("| pooled | one value a feature | ")
    assert "| 10.00% | 0.500 | 0.250 |" in lines[3]
    assert len({line.count("|") for line in lines}) == 1
    run_ablation(variants, tmp_path / "out", train, fresh=True)
    assert len(trained) == 5
    run_ablation(
        variants, tmp_path / "out", train, of_what=lambda variant: "other data" if variant.name == "pooled" else ""
    )
    assert trained[5:] == ["pooled"]
