"""Ablations: the same training, run once for each change of one thing, and a table of what each change does.

The file names a base configuration, settings that all variants share (a smaller budget, usually), and the variants:

    base = "default.toml"
    [common]
    shared_epochs = 2
    [[variant]]
    name = "pooled"
    about = "one value a feature instead of its map"
    verifier = { pooled = true, half = 0 }

A search names what the verifier's form is drawn from instead; forms over a budget are drawn again:

    [search]
    trials = 20
    seed = 1
    least_params = 18_000
    [search.verifier]
    input_px = [56, 64, 72]
    expansion = [2, 3]
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.config import TrainConfig, parse_config, read_toml
from models.spec import MAX_FLOPS, MAX_PARAMS
from toolkit.atomic import write_atomically
from toolkit.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from models.validate import Validation

SCHEMA_VERSION = 1
RESULT = "result.json"
DRAWS = 500  # for each trial wanted, before a search is given up


@dataclass(frozen=True)
class Variant:
    """One line of the table."""

    name: str
    about: str
    config: TrainConfig


@dataclass(frozen=True)
class Result:
    """What a variant reached on the held-out identities, and what it costs on the device."""

    name: str
    about: str
    params: int
    macs: int
    personal: int  # of the parameters, those that the generator makes for each person
    faces: int  # shown in training, repeats counted
    validation: Validation

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_ablation(path: Path) -> list[Variant]:
    """The variants of the file at `path`. Raises UsageError."""
    data = read_toml(path)
    unknown = sorted(set(data) - {"base", "common", "variant", "search"})
    if unknown or not isinstance(data.get("base"), str) or bool(data.get("variant")) == bool(data.get("search")):
        expected = "base, common, and either [[variant]] or [search]"
        raise UsageError(f"{path} is not an ablation", got=unknown or sorted(data), expected=expected)
    shared = _changed(read_toml(path.parent / data["base"]), data.get("common", {}))
    if search := data.get("search"):
        return _drawn(path, shared, search)
    variants = [_variant(path, shared, dict(table)) for table in data["variant"]]
    names = [v.name for v in variants]
    if len(set(names)) < len(names):
        raise UsageError(f"{path}: two variants have one name", got=names)
    return variants


def _variant(path: Path, shared: dict[str, Any], table: dict[str, Any]) -> Variant:
    name, about = table.pop("name", ""), table.pop("about", "")
    if not isinstance(name, str) or not name.replace("-", "").isalnum():
        raise UsageError(f"{path}: a variant's name is not possible", got=name, expected="letters, digits and -")
    return Variant(name, str(about), parse_config(_changed(shared, table), path))


def _changed(shared: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Settings with others over them; of the verifier's form too, only what those name."""
    before, form = shared.get("verifier"), table.get("verifier")
    if isinstance(before, dict) and isinstance(form, dict):
        table = table | {"verifier": before | form}
    return shared | table


def _drawn(path: Path, shared: dict[str, Any], search: Any) -> list[Variant]:
    """Forms of the verifier drawn at random, all different, within both budgets but not far. Raises UsageError."""
    match search:
        case {"trials": int(trials), "seed": int(seed), "least_params": int(least), "verifier": dict(choices)}:
            pass
        case _:
            expected = "trials, seed, least_params, [search.verifier]"
            raise UsageError(f"{path}: search is not possible", got=search, expected=expected)
    lists = all(isinstance(values, list) and values for values in choices.values())
    if trials < 1 or not choices or not lists:
        raise UsageError(
            f"{path}: search.verifier is not possible",
            got=choices,
            expected="a trial or more, and a list for each name",
        )
    draw = random.Random(seed)
    found: dict[str, Variant] = {}
    for _ in range(trials * DRAWS):
        form = {name: draw.choice(values) for name, values in choices.items()}
        about = ", ".join(f"{name} {_short(value)}" for name, value in form.items())
        try:
            config = parse_config(_changed(shared, {"verifier": form}), path)
        except UsageError as error:
            if isinstance(error.__cause__, ArtifactError):
                continue  # more stages than the picture has pixels for
            raise
        if least <= config.verifier.params <= MAX_PARAMS and config.verifier.flops <= MAX_FLOPS:
            found.setdefault(config.hash, Variant(f"trial-{len(found) + 1:02}", about, config))
        if len(found) == trials:
            return list(found.values())
    raise UsageError(f"{path}: too few forms keep to the budgets", got=len(found), expected=trials)


def _short(value: Any) -> str:
    """Blocks as 16/2 16 24/2: channels, and the stride where it is not 1."""
    if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
        return str(value).lower()
    return " ".join(f"{width}/{stride}" if stride != 1 else str(width) for width, stride in value)


def run_ablation(
    variants: list[Variant],
    out: Path,
    train: Callable[[Variant, Path], tuple[Validation, int]],
    fresh: bool = False,
    of_what: Callable[[Variant], str] = lambda _: "",
) -> list[dict[str, Any]]:
    """Train each variant in OUT/<name> unless its result is there already; `train` returns it and the faces shown.

    `of_what` tells apart what a variant is trained on and starts from. Writes OUT/ablation.json and OUT/ablation.md
    after each variant; returns the lines of the table.
    """
    results = []
    for variant in variants:
        folder = out / variant.name
        key = variant.config.hash + of_what(variant)
        known = None if fresh else _known(folder / RESULT, key)
        if known is None:
            folder.mkdir(parents=True, exist_ok=True)
            validation, faces = train(variant, folder)
            known = _result(variant, validation, faces).to_dict()
            _write(folder / RESULT, {"configuration_hash": key, "result": known})
        results.append(known)
        _write(out / "ablation.json", {"schema_version": SCHEMA_VERSION, "variants": results})
        write_atomically(out / "ablation.md", (table(results) + "\n").encode(), mode=0o644)
    return results


def _result(variant: Variant, validation: Validation, faces: int) -> Result:
    spec = variant.config.verifier
    made = f"{spec.head.name}." if variant.config.generator == "head" else ""
    personal = sum(slot.size for slot in spec.slots.values() if slot.name.startswith(made))
    return Result(variant.name, variant.about, spec.params, spec.macs, personal, faces, validation)


def _known(path: Path, config: str) -> dict[str, Any] | None:
    """The result of an earlier run of the same configuration."""
    if not path.is_file():
        return None
    data = json.loads(path.read_text())
    result: dict[str, Any] | None = data["result"] if data["configuration_hash"] == config else None
    return result


def _write(path: Path, data: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(data, indent=2, sort_keys=True) + "\n").encode(), mode=0o644)


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: one line a variant, in the file's order; of a search the best first."""
    if all(r["name"].startswith("trial-") for r in results):
        results = sorted(results, key=lambda r: float(r["validation"]["eer"]))
    lines = [
        "| variant | what | parameters | of them personal | MMAC | EER | TMR at FMR 1e-2 | 1e-3 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        v = r["validation"]
        lines.append(
            f"| {r['name']} | {r['about']} | {r['params']:,} | {r['personal']:,} | {r['macs'] / 1e6:.2f} "
            f"| {v['eer']:.2%} | {v['tmr_1e2']:.3f} | {v['tmr_1e3']:.3f} |"
        )
    return "\n".join(lines)
