"""The training loop: stage 1 teaches trunk and head together, stage 2 the other generators.

Every random choice depends on (seed, stage, step), so a run that was interrupted and resumed equals one that was not.
Checkpoints are replaced atomically; Ctrl-C finishes the step, saves and stops.
"""

from __future__ import annotations

import copy
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.tensorboard import SummaryWriter

from models.augment import augment
from models.checkpoints import averaged_weights, mean_of, own_state, read_checkpoint, take
from models.cohort import Cohort, comparable
from models.config import TrainConfig
from models.distributed import CPU, Group, place
from models.faceset import FaceSet, PersonTargets
from models.files import sha256_of
from models.hypernetwork import HyperNetwork
from models.losses import Terms, VerificationLoss, same_person
from models.optimiser import Optimiser
from models.ranges import fill_ranges
from models.recover import recovered
from models.sampling import KcsSampler
from models.validate import Validation, fit_score_range, validate
from models.verifier import to_input, verify_users
from toolkit.atomic import write_atomically
from toolkit.errors import UsageError

SAVE_EVERY_S = 120.0
RENEWAL_FACES = 8192  # that the statistics of a mean network are measured on
VALIDATIONS = 10  # in a stage
MAX_VALIDATION_USERS = 300  # enrolled to judge a run; every held-out face is shown to each of them
Weights = tuple[float, float, float, float, float]
ALONE = Group()
Report = Callable[[str, int, int, dict[str, float]], None]  # stage, step, steps, values


class Interrupted(Exception):  # noqa: N818  (it reports no error)
    """Ctrl-C: the checkpoint is saved, the run can be resumed."""


@dataclass(frozen=True)
class Now:
    """What the schedules say at one point of a stage."""

    weights: Weights  # of the loss's terms
    target: float  # how far templates to compare move to their person's mean
    augmentation: float  # share of the faces that look as cameras make them


class Trainer:
    """One training run in `folder`, which holds its checkpoint and its TensorBoard log."""

    def __init__(
        self,
        config: TrainConfig,
        train: FaceSet,
        held_out: FaceSet,
        folder: Path,
        report: Report,
        compiled: bool = False,
        group: Group = ALONE,
        validations: int = VALIDATIONS,
    ):
        """`compiled` runs the shared trunk through torch.compile (needs a C++ compiler): a third faster.

        `validations` are those on the way; `run` always ends with one.
        """
        torch.manual_seed(config.seed)
        self.config, self.train, self.held_out, self.report, self.group = config, train, held_out, report, group
        self.validations = validations
        group.check(batch=config.batch, users=config.users)
        self.network = self.build()
        self.network.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # half as fast again as NCHW, on a CPU
        group.prepare(self.network)
        self.loss = VerificationLoss(config.positive_weight, config.margin).to(group.device)
        ema = get_ema_multi_avg_fn(config.average)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.network, multi_avg_fn=ema, use_buffers=True)
        if compiled:
            self.network.trunk.compile()
        self.sampler = KcsSampler(train.templates, train.identity, config.clusters, config.seed)
        self.templates = torch.from_numpy(train.templates)
        self.targets = PersonTargets(train)
        self.cohort = Cohort.of(train.photos.templates) if config.cohort_targets else None
        self.identity = torch.from_numpy(train.identity)
        self._data_hash = train.sha256
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = folder / "checkpoint.pt"
        self.log = SummaryWriter(str(folder / "tensorboard")) if group.first else None
        self.stop = False
        self.start_steps: int | None = None  # of the run that this one started from
        self.origin: str | None = ""  # which networks those were; None: an older version did not tell

    def build(self) -> HyperNetwork:
        """The network to train, fresh."""
        c, size = self.config, self.train.templates.shape[1]
        return HyperNetwork(c.verifier, size, c.generator, c.hidden, c.branches)  # type: ignore[arg-type]

    @property
    def stages(self) -> list[tuple[str, int, float]]:
        """(name, steps, peak learning rate)."""
        c = self.config
        shared = round(c.shared_epochs * len(self.train) / c.batch)
        return [("shared", shared, c.shared_rate), ("personal", c.personal_steps, c.personal_rate)]

    def start_from(self, *checkpoints: Path, grow: bool = False) -> None:
        """Begin with the network of another run, whose generator may be simpler, or of a head generator's .onnx file,
        or with the mean of several.

        Runs have a useful mean when one began where the other was. Raises UsageError.
        """
        networks = []
        for checkpoint in checkpoints:
            if not checkpoint.is_file():
                raise UsageError(f"no such checkpoint: {checkpoint}", do="name a run's checkpoint.pt or its h.onnx")
            weights, steps = self._read(checkpoint, grow)
            networks.append(weights)
            self._take(weights, checkpoint)
            self.start_steps = max(self.start_steps or 0, steps)
        self.origin = "".join(map(sha256_of, checkpoints))
        if len(networks) > 1:
            mean = self.build()  # every process makes the same one, with a normalisation of its own
            take(mean, mean_of(networks), checkpoints[0])
            place(mean, self.group.device)
            update_bn(self._some_faces(), mean.trunk)  # the means of the networks' statistics are not its own
            self._take(mean.state_dict(), checkpoints[0])

    def _read(self, origin: Path, grow: bool) -> tuple[dict[str, Tensor], int]:
        """The network in a checkpoint and its steps, or that of a generator's file, which does not tell them."""
        if origin.suffix == ".onnx":
            c, faces = self.config, (x.to(CPU) for x in self._some_faces())
            return recovered(origin, c.verifier, c.backbone, faces, c.seed if grow else None).state_dict(), 0
        state = read_checkpoint(origin, "name a run's checkpoint.pt or a generator's .onnx file")
        return averaged_weights(state), state["step"]

    def _take(self, weights: dict[str, Tensor], origin: Path) -> None:
        for network in (self.network, self.averaged):
            take(network, weights, origin)

    def _some_faces(self) -> Iterator[Tensor]:
        """Faces to measure statistics on, in batches, as training shows them at its end."""
        share = self.config.augmentation.at(1.0)
        noise = torch.Generator().manual_seed(self.config.seed)
        rows = np.random.default_rng(self.config.seed).permutation(len(self.train.photos))[:RENEWAL_FACES]
        whole = len(rows) // self.config.batch * self.config.batch or len(rows)  # a small batch would weigh as much
        for start in range(0, whole, self.config.batch):
            yield self._faces(rows[start : start + self.config.batch], noise, share)

    def run(self, resume: bool) -> Validation:
        """Train to the end and return the validation of the averaged network. Raises Interrupted."""
        trains = any(steps for _, steps, _ in self.stages)
        # What takes no step is no older work to go on with, but what it starts from.
        goes_on = resume and (trains or self.start_steps is None)
        stage, step, optimiser_state = self._load() if goes_on else (0, 0, None)
        try:
            with _stop_on_interrupt(self):
                for number in range(stage, len(self.stages)):
                    self._run_stage(number, step, optimiser_state)
                    step, optimiser_state = 0, None
                if not trains:
                    self._save(0, 0, self._optimiser(0))
        finally:
            if self.log:
                self.log.close()
        place(self.averaged, CPU)
        return self._validated()

    def fit_int8(self) -> dict[str, Any]:
        """Let the averaged network use the int8 ranges whole. To be called once, after the last step.

        Returns the median factor of each layer that was scaled, and what became of all scores.
        """
        self.averaged.trunk = self.averaged.trunk.merged()
        pixels = torch.from_numpy(self.held_out.pixels).permute(0, 3, 1, 2)
        factors = fill_ranges(self.averaged, to_input(pixels))
        factor, shift = fit_score_range(self.averaged, self.held_out, MAX_VALIDATION_USERS)
        return {"range_factors": factors, "score_factor": factor, "score_shift": shift}

    def _validated(self) -> Validation:
        network = self.averaged
        if self.group.device != CPU:
            place(network := copy.deepcopy(network), CPU)
        return validate(network, self.held_out, MAX_VALIDATION_USERS)

    @property
    def averaged(self) -> HyperNetwork:
        return cast(HyperNetwork, self.average.module)

    def _run_stage(self, number: int, first: int, optimiser_state: list[dict[str, Any]] | None) -> None:
        name, steps, _ = self.stages[number]
        optimiser = self._optimiser(number)
        if optimiser_state:
            optimiser.load_state_dict(optimiser_state)
        saved = time.monotonic()
        for step in range(first, steps):
            progress = step / steps
            terms = self._step(number, step, progress)
            optimiser.zero_grad()
            terms.total.backward()  # type: ignore[no-untyped-call]
            self.group.average_gradients(optimiser.parameters)
            torch.nn.utils.clip_grad_norm_(optimiser.parameters, 5.0)
            optimiser.step(progress)
            self.average.update_parameters(self.network)
            self._tell(name, step, steps, terms)
            done, stop = step + 1, self.group.any(self.stop)
            if self.validations and done % max(1, steps // self.validations) == 0:
                self._validate(name, done)
            if stop or done == steps or time.monotonic() - saved > SAVE_EVERY_S:
                self._save(number, done, optimiser)
                saved = time.monotonic()
            if stop:
                raise Interrupted

    def _optimiser(self, number: int) -> Optimiser:
        rate = self.stages[number][2]
        # The personal stage starts from a trunk that has been learned: small steps, without Muon.
        conv_rate = self.config.conv_rate if number == 0 else 0.0
        return Optimiser(self.network.trunk, [self.network, self.loss], rate, conv_rate, self.config.weight_decay)

    def _step(self, stage: int, step: int, progress: float) -> Terms:
        """Loss of one batch: all templates against all faces, or each user against their own queries."""
        rng = self.sampler.rng(step + 1_000_000_000 * stage)
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        c = self.config
        hard = c.hard_share.at(progress)
        schedules = (c.distillation, c.ranking, c.cross_entropy, c.norm_penalty, c.cohort)
        weights = cast(Weights, tuple(schedule.at(progress) for schedule in schedules))
        now = Now(weights, c.person_targets.at(progress), c.augmentation.at(progress))
        self.network.train()
        if stage == 0:
            rows = self.sampler.batch(c.batch, hard, rng)
            bank = rng.integers(0, len(self.train), c.bank)
            return self._shared_step(np.concatenate([rows, bank]), c.batch, noise, now)
        self.network.trunk.norms.eval()  # folded into θ, so its statistics stay as stage 1 left them
        enrol, queries = self.sampler.users(c.users, c.genuine, c.impostors, hard, rng)
        return self._personal_step(enrol, queries, noise, now)

    def _shared_step(self, enrolled: np.ndarray, faces: int, noise: torch.Generator, now: Now) -> Terms:
        rows = enrolled[:faces]  # those whose pixels take part
        device = self.group.device
        noisy = self._noisy(self.templates[enrolled], noise)  # [U, D], the same in every process
        x = self._faces(self.group.part(rows), self.group.own(noise), now.augmentation)
        part = self.network.shared_scores(noisy, x)
        scores = self.group.gathered(part, 1)  # [U, N]
        targets = self.targets.of(enrolled, now.target)  # [U, D]
        users, shown = comparable(targets, targets[:faces], self.cohort)
        cosines = torch.from_numpy(users) @ torch.from_numpy(shown).T  # [U, N]
        pairs = (scores, cosines.to(device), self.same_person(enrolled, rows).to(device))
        result: Terms = self.loss(*pairs, self.network.head.weight, now.weights, every_pair=True)
        return result

    def _personal_step(self, enrol: np.ndarray, queries: np.ndarray, noise: torch.Generator, now: Now) -> Terms:
        group, device = self.group, self.group.device
        own, shown = group.part(enrol), group.part(queries)
        x = self._faces(shown.ravel(), group.own(noise), now.augmentation)
        x = x.reshape(*shown.shape, *x.shape[1:])  # [U, Q, 3, H, W]
        theta = self.network(self._noisy(self.templates[own], noise))  # [U, P]
        scores = group.gathered(verify_users(self.network.spec, theta, x), 0)
        theta = group.gathered(theta, 0)
        same = torch.stack([self.same_person(enrol[i : i + 1], q)[0] for i, q in enumerate(queries)])
        personal = theta - theta.mean(0, keepdim=True).detach()
        targets = self.targets.of(enrol, now.target), self.targets.of(queries.ravel(), now.target)  # [U, D], [U * Q, D]
        users, asked = comparable(*targets, self.cohort)
        cosines = torch.from_numpy(np.einsum("ud,uqd->uq", users, asked.reshape(*queries.shape, -1)))
        pairs = (scores, cosines.to(device), same.to(device))
        result: Terms = self.loss(*pairs, personal, now.weights, every_pair=False)
        return result

    def same_person(self, a: np.ndarray, b: np.ndarray) -> Tensor:
        """`models.losses.same_person` of the training set's rows a [U] and b [N]: [U, N]."""
        return same_person(self.identity[a], self.identity[b], torch.from_numpy(a), torch.from_numpy(b))

    def _faces(self, rows: np.ndarray, noise: torch.Generator, augmentation: float) -> Tensor:
        pixels = torch.from_numpy(self.train.pixels[rows]).permute(0, 3, 1, 2).float()  # [N, 3, H, W]
        x = to_input(augment(pixels, noise, augmentation)).to(self.group.device)
        return x.contiguous(memory_format=torch.channels_last)

    def _noisy(self, templates: Tensor, noise: torch.Generator) -> Tensor:
        jitter = torch.randn(templates.shape, generator=noise) * self.config.template_noise
        return F.normalize(templates + jitter, dim=1).to(self.group.device)

    def _tell(self, stage: str, step: int, steps: int, terms: Terms) -> None:
        if self.log and step % 20 == 0:
            values = {k: float(v.detach()) for k, v in vars(terms).items()}
            for key, value in values.items():
                self.log.add_scalar(f"{stage}/{key}", value, step)
            self.report(stage, step, steps, values)

    def _validate(self, stage: str, step: int) -> None:
        if not self.log:
            return
        result = asdict(self._validated())
        for key, value in result.items():
            self.log.add_scalar(f"{stage}/validation_{key}", value, step)
        self.report(f"{stage} validation", step, 0, result)

    def _save(self, stage: int, step: int, optimiser: Optimiser) -> None:
        if not self.group.first:
            return
        state = {
            "config": self.config.hash,
            "data": self._data_hash,
            "origin": self.origin,
            "stage": stage,
            "step": step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "loss": self.loss.state_dict(),
            "optimiser": optimiser.state_dict(),
        }
        write_atomically(self.checkpoint, lambda stream: torch.save(state, stream))

    def _load(self) -> tuple[int, int, list[dict[str, Any]] | None]:
        if not self.checkpoint.is_file():
            return 0, 0, None
        state = own_state(self.checkpoint, self.config.hash, self._data_hash, self.origin)
        self.origin = self.origin or state["origin"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.loss.load_state_dict(state["loss"])
        return state["stage"], state["step"], state["optimiser"]


@contextmanager
def _stop_on_interrupt(trainer: Trainer) -> Iterator[None]:
    """Turn Ctrl-C into a request to stop after the step."""

    def request(*_: object) -> None:
        trainer.stop = True

    before = signal.signal(signal.SIGINT, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
