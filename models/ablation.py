"""Ablations: the same training, run once for each change of one thing, and a table of what each change does.

The file names a base configuration, settings that all variants share (a smaller budget, usually), and the variants:

    base = "default.toml"
    [common]
    shared_epochs = 2
    [[variant]]
    name = "pooled"
    about = "one value a feature instead of its map"
    verifier = { pooled = true }
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.config import TrainConfig, parse_config, read_toml
from toolkit.atomic import write_atomically
from toolkit.errors import UsageError

if TYPE_CHECKING:
    from models.validate import Validation

SCHEMA_VERSION = 1
RESULT = "result.json"


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
    personal: int  # of the parameters, those of the last layer
    faces: int  # shown in training, repeats counted
    validation: Validation

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_ablation(path: Path) -> list[Variant]:
    """The variants of the file at `path`. Raises UsageError."""
    data = read_toml(path)
    unknown = sorted(set(data) - {"base", "common", "variant"})
    if unknown or not isinstance(data.get("base"), str) or not data.get("variant"):
        raise UsageError(
            f"{path} is not an ablation", got=unknown or sorted(data), expected="base, common, [[variant]]"
        )
    shared = read_toml(path.parent / data["base"]) | data.get("common", {})
    variants = [_variant(path, shared, dict(table)) for table in data["variant"]]
    names = [v.name for v in variants]
    if len(set(names)) < len(names):
        raise UsageError(f"{path}: two variants have one name", got=names)
    return variants


def _variant(path: Path, shared: dict[str, Any], table: dict[str, Any]) -> Variant:
    name, about = table.pop("name", ""), table.pop("about", "")
    if not isinstance(name, str) or not name.replace("-", "").isalnum():
        raise UsageError(f"{path}: a variant's name is not possible", got=name, expected="letters, digits and -")
    return Variant(name, str(about), parse_config(shared | table, path))


def run_ablation(
    variants: list[Variant], out: Path, train: Callable[[Variant, Path], tuple[Validation, int]], fresh: bool = False
) -> list[dict[str, Any]]:
    """Train each variant in OUT/<name> unless its result is there already; `train` returns it and the faces shown.

    Writes OUT/ablation.json after each variant; returns the lines of its table.
    """
    results = []
    for variant in variants:
        folder = out / variant.name
        known = None if fresh else _known(folder / RESULT, variant.config.hash)
        if known is None:
            folder.mkdir(parents=True, exist_ok=True)
            validation, faces = train(variant, folder)
            known = _result(variant, validation, faces).to_dict()
            _write(folder / RESULT, {"configuration_hash": variant.config.hash, "result": known})
        results.append(known)
        _write(out / "ablation.json", {"schema_version": SCHEMA_VERSION, "variants": results})
    return results


def _result(variant: Variant, validation: Validation, faces: int) -> Result:
    spec = variant.config.verifier
    personal = sum(slot.size for slot in spec.slots.values() if slot.name.startswith(f"{spec.head.name}."))
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
    """Markdown: one line a variant, in the file's order."""
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
