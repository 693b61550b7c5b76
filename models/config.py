"""The training configuration: one TOML file, checked as a whole, nothing silently ignored."""

from __future__ import annotations

import hashlib
import inspect
import json
import tomllib
from dataclasses import MISSING, asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from models.backbone import BACKBONES
from models.schedule import Schedule
from models.spec import DEFAULT_SPEC, WHOLE, VerifierSpec, mobile_spec
from toolkit.errors import ArtifactError, UsageError

LEAST_COHORT = 100  # templates whose highest tenth says something
GENERATORS = ("head", "film", "low-rank", "full", "embedding")


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training run. Schedules are over the progress of their stage, 0..1."""

    faces: tuple[str, ...]  # files of crops or folders of them (models/facestream.py), relative to the data folder
    held_out_share: float = 0.0  # of the people of sets without splits, who judge the run and are not trained on
    blends: int = 0  # faces made of two training people's each, for distillation (models/blend.py)
    generator: str = "head"  # models/hypernetwork.py; "embedding": a network that all people share
    backbone: str = "sface"
    verifier: VerifierSpec = DEFAULT_SPEC  # in TOML a table of what differs from `models.spec.mobile_spec`
    hidden: int = 96  # width of all generators but head; full's weight file grows by 23 k numbers for each
    branches: int = 1  # convolutions that each layer of the trunk is trained as the sum of (models/verifier.py)
    seed: int = 1

    batch: int = 128  # faces a step in the shared stage; every template meets every face
    bank: int = 2048  # templates of other faces that each of these meets as well: negatives that cost next to nothing
    shared_epochs: float = 30.0  # stage 1: trunk and head together
    shared_rate: float = 4e-3
    conv_rate: float = 0.0  # of Muon, which then trains the trunk's dense convolutions; 0: AdamW for them too
    personal_steps: int = 0  # stage 2: all generators but head, each user with their own weights
    personal_rate: float = 1e-3
    users: int = 12
    genuine: int = 6  # query photos a user and step, beside the enrolment photo
    impostors: int = 18
    weight_decay: float = 0.01
    average: float = 0.999  # decay of the moving average of all weights, which is what is validated and shipped
    # How far the templates that distillation compares move to their person's mean, 0..1.
    person_targets: Schedule = field(default=Schedule(((0.0, 0.0),)))
    cohort_targets: bool = False  # distil scores that strangers' verifiers give alike to every face (models/cohort.py)
    augmentation: Schedule = field(default=Schedule(((0.0, 1.0),)))  # share of the faces that look as cameras make them
    template_noise: float = 0.03  # standard deviation added to each template coordinate, then back to unit length

    clusters: int = 256  # k of KCS
    hard_share: Schedule = field(default=Schedule(((0.0, 0.0), (0.2, 0.0), (1.0, 0.6))))
    distillation: Schedule = field(default=Schedule(((0.0, 5.0),)))
    ranking: Schedule = field(default=Schedule(((0.0, 1.0),)))
    cross_entropy: Schedule = field(default=Schedule(((0.0, 1.0),)))
    norm_penalty: Schedule = field(default=Schedule(((0.0, 1e-4),)))
    cohort: Schedule = field(default=Schedule(((0.0, 0.0),)))  # penalty on faces that strangers' verifiers treat apart
    positive_weight: float = 30.0
    margin: float = 0.0  # above 0: a margin softmax takes the place of the weighted cross-entropy, as a baseline

    def __post_init__(self) -> None:
        """Check the settings together. Raises UsageError."""
        one_stage = self.generator in ("head", "embedding")
        cohort = [weight for _, weight in self.cohort.points]
        shares = {name: [v for _, v in getattr(self, name).points] for name in ("person_targets", "augmentation")}
        problems = [
            (self.generator not in GENERATORS, "generator", self.generator, ", ".join(GENERATORS)),
            (self.backbone not in BACKBONES, "backbone", self.backbone, " or ".join(BACKBONES)),
            (not self.faces, "faces", "none", "at least one file or folder of crops"),
            (not 0 <= self.held_out_share < 1, "held_out_share", self.held_out_share, "0 ≤ held_out_share < 1"),
            (self.blends < 0, "blends", self.blends, "0 or more"),
            (self.seed < 0, "seed", self.seed, "0 or more"),
            (self.clusters < 1, "clusters", self.clusters, "at least 1"),
            (self.hidden < 1, "hidden", self.hidden, "at least 1"),
            (self.branches < 1, "branches", self.branches, "at least 1"),
            (min(self.users, self.genuine, self.impostors) < 1, "users, genuine or impostors",
             (self.users, self.genuine, self.impostors), "at least 1 each"),
            (self.bank < 0, "bank", self.bank, "0 or more"),
            (self.bank < LEAST_COHORT and any(cohort), "cohort", cohort,
             f"0 with a bank of less than {LEAST_COHORT} templates"),
            (not self.shared_epochs and any(cohort), "cohort", cohort,
             "0 without a shared stage, where templates meet all faces"),
            (self.cohort_targets and self.generator == "embedding", "cohort_targets", True,
             "false for an embedding, whose scores are the same both ways"),
            (self.generator == "embedding" and self.verifier.region != WHOLE.region, "verifier", "a part of the face",
             f"region = {list(WHOLE.region)}, as `toolkit eval peers` shows faces to an embedding"),
            (self.margin < 0, "margin", self.margin, "0 or more"),
            (self.batch < 8, "batch", self.batch, "at least 8"),
            (self.shared_epochs < 0, "shared_epochs", self.shared_epochs, "0 (with --start) or more"),
            (self.conv_rate < 0, "conv_rate", self.conv_rate, "0 (AdamW) or more"),
            *((not all(0 <= v <= 1 for v in values), name, values, "0 to 1") for name, values in shares.items()),
            (not 0 <= self.average < 1, "average", self.average, "0 ≤ average < 1"),
            (one_stage and self.personal_steps > 0, "personal_steps", self.personal_steps,
             f"0 with the {self.generator} generator, which has no second stage"),
            (not one_stage and self.personal_steps <= 0, "personal_steps", self.personal_steps,
             f"more than 0 with the {self.generator} generator"),
        ]  # fmt: skip
        for wrong, name, got, expected in problems:
            if wrong:
                raise UsageError(f"the setting {name} is not possible", got=got, expected=expected)

    @property
    def hash(self) -> str:
        told = asdict(self) | {"verifier": self.verifier.to_dict()}
        for name, before in (("blends", 0), ("branches", 1)):  # runs from before there were any keep their hash
            if told[name] == before:
                del told[name]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


_SCHEDULES = (
    "augmentation", "person_targets", "hard_share",
    "distillation", "ranking", "cross_entropy", "norm_penalty", "cohort",
)  # fmt: skip


def read_toml(path: Path) -> dict[str, Any]:
    """Raises UsageError when there is no such file or it is not TOML."""
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"no such configuration: {path}", got=error.strerror) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML", got=str(error)) from error


def read_config(path: Path) -> TrainConfig:
    """Read a TOML file. Raises UsageError for an unknown key (naming the nearest) or a wrong type."""
    return parse_config(read_toml(path), path)


def parse_config(data: dict[str, Any], path: Path) -> TrainConfig:
    """A configuration from what stands in the file at `path`. Raises UsageError as `read_config` does."""
    data = dict(data)
    known = {f.name: f for f in fields(TrainConfig)}
    for key, value in data.items():
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise UsageError(f"{path}: unknown setting {key}", do=hint)
        data[key] = _converted(path, key, value, known[key].default)
    if "faces" not in data:
        raise UsageError(f"{path}: the setting faces is missing", expected="a list of files or folders of crops")
    return TrainConfig(**data)


def _converted(path: Path, key: str, value: Any, default: Any) -> Any:
    if key == "verifier":
        return _verifier(path, value)
    if key in _SCHEDULES:
        return Schedule.parse(value, f"{path}: {key}")
    if default is MISSING:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise UsageError(f"{path}: {key} has the wrong type", got=value, expected="a list of names")
        return tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise UsageError(f"{path}: {key} has the wrong type", got=value, expected=type(default).__name__)
    return value


def _verifier(path: Path, table: Any) -> VerifierSpec:
    """The spec that `mobile_spec` builds from a table of its arguments."""
    known = inspect.signature(mobile_spec).parameters
    unknown = sorted(set(table) - set(known)) if isinstance(table, dict) else [table]
    if unknown:
        raise UsageError(f"{path}: verifier is not possible", got=unknown, expected=f"some of {', '.join(known)}")
    for key, value in table.items():
        if not isinstance(known[key].default, tuple):
            _converted(path, f"verifier.{key}", value, known[key].default)
    try:
        return mobile_spec(**table)
    except (ArtifactError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UsageError(f"{path}: verifier is not possible", got=error) from error
