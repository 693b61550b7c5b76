"""The states of a device at a door, from observations and their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from device.decision import ACCEPTED, REJECTED, UNKNOWN, Decision, Evidence, SequentialTest
from device.liveness import ASKING, SPOOF, Challenge, Liveness
from device.pipeline import Observation
from device.quality import ADVICE
from device.sources.base import Outage

LEFT_S = 1.0  # a face unseen for so long has left, and what was known of it is forgotten
ANSWERED = 2  # usable frames at rest before the last turn, at least: they say who it is that answers a challenge
GAVE_UP = 1 / 3  # of the frames that a visit may have: who leaves undecided after these has failed, else has passed by


class State(StrEnum):
    """What the device does, or has just decided."""

    SEARCHING = "searching"  # nobody there
    HOLD_STILL = "hold-still"  # a face that cannot be used yet; the advice says why
    CHECKING = "checking"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNKNOWN = "unknown"  # not enough evidence either way
    LOCKED_OUT = "locked-out"
    NO_CAMERA = "no-camera"


@dataclass(frozen=True)
class Timing:
    """How long decisions last, and what follows failed ones."""

    decide_within_s: float = 5.0  # from a face's first usable frame
    hold_s: float = 3.0  # an acceptance is shown and in force for so long
    cool_down_s: float = 2.0  # after a rejection, before the same face is tried again
    lockout_after: int = 5  # visits in a row that ended in no acceptance; 0: never
    lockout_s: float = 30.0  # the first lock-out; each further one lasts twice as long, as NIST SP 800-63B advises
    lockout_longest_s: float = 3600.0


@dataclass(frozen=True)
class Status:
    """The state after one frame. `share`: the likeliest user's evidence over what acceptance takes."""

    state: State
    time_s: float
    changed: bool
    reason: str = ""
    advice: str = ""
    user: str = ""
    share: float = 0.0
    frames: int = 0
    decision: Decision | None = None  # in the frame that decides


@dataclass
class _Visit:
    """One face: its evidence, when it was first usable and last seen, and what was decided about it."""

    evidence: Evidence
    began_s: float
    seen_s: float
    outcome: str = ""
    again_s: float = 0.0  # when a face that was not accepted may be tried again
    suspect_frames: int = 0
    challenge: Challenge | None = None
    left: int = 0  # turns of it that had not been made when `evidence` began


@dataclass
class Session:
    """Feed it every frame's observations, or the outage, in order of time."""

    test: SequentialTest
    timing: Timing = field(default_factory=Timing)
    liveness: Liveness | None = None

    def __post_init__(self) -> None:
        self._visits: dict[int, _Visit] = {}
        self._last = Status(State.SEARCHING, 0.0, False)
        self._held: Status | None = None  # the decision that is shown, until:
        self._until_s = 0.0
        self._locked_until_s = 0.0
        self._failures = self._lockouts = 0

    def inherit(self, other: Session) -> None:
        """Take over what counts against visitors, and the state shown: a reload lifts no lock-out.

        Whoever stands there is judged anew.
        """
        self._locked_until_s, self._failures, self._lockouts = other._locked_until_s, other._failures, other._lockouts
        self._last = other._last

    def outage(self, outage: Outage) -> Status:
        """The camera gives nothing. Whoever stood there is forgotten; a lock-out goes on."""
        self._visits.clear()
        self._held = None
        return self._tell(State.NO_CAMERA, outage.time_s, outage.kind, outage.advice)

    def update(self, observations: Sequence[Observation], time_s: float, rgb: np.ndarray | None = None) -> Status:
        """One frame's faces, the most important first; `rgb`, the frame itself, is for the liveness gate."""
        self._forget_who_left(time_s)
        if time_s < self._locked_until_s:
            self._visits.clear()
            left = f"try again in {self._locked_until_s - time_s:.0f} s"
            return self._tell(State.LOCKED_OUT, time_s, "locked_out", left)
        decisions = [found for seen in observations if (found := self._consider(seen, time_s, rgb))]
        accepted = [(seen, made) for seen, made in decisions if made.outcome == ACCEPTED]
        if decisions:
            return self._decide(*(accepted or decisions)[0], time_s)
        if self._held and (time_s < self._until_s or self._still_there(self._held, observations)):
            return self._repeat(self._held, time_s)
        self._held = None
        return self._describe(observations[0], time_s)

    def _consider(
        self, seen: Observation, time_s: float, rgb: np.ndarray | None
    ) -> tuple[Observation, Decision] | None:
        """Add one observation to its face's evidence."""
        if seen.face is None:
            return None
        if visit := self._visits.get(seen.track):
            visit.seen_s = time_s
            if visit.challenge and not visit.outcome and visit.challenge.update(seen.face, time_s) == SPOOF:
                return seen, visit.evidence.decision(SPOOF)
        if not seen.scores:
            return None
        if visit is None or (visit.outcome and visit.outcome != ACCEPTED and time_s >= visit.again_s):
            visit = self._visits[seen.track] = _Visit(self.test.begin(), time_s, time_s)
        if visit.outcome == ACCEPTED:
            return self._doubt(visit, seen, time_s)
        if visit.outcome:
            return None
        asked = visit.challenge is not None and visit.challenge.state == ASKING
        made = self._watched(visit, seen) if asked else self._weigh(visit, seen, time_s, rgb)
        return (seen, made) if made else None

    def _watched(self, visit: _Visit, seen: Observation) -> Decision | None:
        """A usable frame of somebody who answers a challenge. At rest it says who that is, anew after each turn.

        It may end the visit badly: a picture that was recognised may have given way to a head that turns.
        """
        assert visit.challenge is not None
        if not visit.challenge.at_rest:
            return None
        if visit.left != visit.challenge.left:
            visit.evidence, visit.left = self.test.begin(), visit.challenge.left
        made = visit.evidence.add(seen.scores)
        return made if made and made.outcome == REJECTED else None

    def _doubt(self, visit: _Visit, seen: Observation, time_s: float) -> tuple[Observation, Decision] | None:
        """Who was accepted and stays is checked on, without being accepted anew: another may have taken their place."""
        if time_s < self._until_s:
            return None
        if visit.evidence.decided:
            visit.evidence = self.test.begin()
        made = visit.evidence.add(seen.scores)
        return (seen, made) if made and made.outcome not in (ACCEPTED, UNKNOWN) else None

    def _weigh(self, visit: _Visit, seen: Observation, time_s: float, rgb: np.ndarray | None) -> Decision | None:
        """One usable frame of a visit: evidence about who it is, and whether it is a person."""
        assert seen.face is not None
        if self.liveness and rgb is not None:
            visit.suspect_frames += self.liveness.suspects(rgb, seen.face)
        unseen = visit.challenge is not None and (visit.left > 1 or visit.evidence.frames < ANSWERED)
        made = visit.evidence.add(seen.scores)
        if unseen:  # the challenge is met, by nobody knows whom
            return visit.evidence.decision(UNKNOWN)
        if made is None and time_s - visit.began_s >= self.timing.decide_within_s:
            made = visit.evidence.decision(UNKNOWN)
        if made is None or made.outcome != ACCEPTED or self.liveness is None:
            return made
        if 2 * visit.suspect_frames > made.frames:
            return visit.evidence.decision(SPOOF)
        if visit.challenge is None and (challenge := self.liveness.challenge(time_s)):
            # Who answers must be who was recognised: evidence begins anew, and counts while they answer.
            visit.challenge, visit.evidence, visit.suspect_frames = challenge, self.test.begin(), 0
            visit.began_s, visit.left = time_s + self.liveness.settings.within_s, challenge.left
            return None
        return made

    def _decide(self, seen: Observation, made: Decision, time_s: float) -> Status:
        visit, accepted = self._visits[seen.track], made.outcome == ACCEPTED
        visit.outcome, visit.again_s = made.outcome, time_s + self.timing.cool_down_s
        self._until_s = time_s + (self.timing.hold_s if accepted else self.timing.cool_down_s)
        self._count(accepted, time_s)
        state = State.REJECTED if made.outcome == SPOOF else State(made.outcome)
        advice = ADVICE["spoof"] if made.outcome == SPOOF else ""
        reason = made.outcome if state is State.REJECTED else ""
        user = made.user if accepted else ""
        share = made.evidence / made.bound
        self._held = self._tell(state, time_s, reason, advice, user, share, made.frames, made)
        return self._held

    def _count(self, accepted: bool, time_s: float) -> None:
        """Failures in a row lock the device out, longer each time; an acceptance clears the count.

        To leave before the decision is one, or anybody could try without end.
        """
        if accepted:
            self._failures = self._lockouts = 0
            return
        self._failures += 1
        if self.timing.lockout_after and self._failures >= self.timing.lockout_after:
            delay_s = min(self.timing.lockout_longest_s, self.timing.lockout_s * 2.0 ** min(self._lockouts, 30))
            self._locked_until_s = time_s + delay_s
            self._failures, self._lockouts = 0, self._lockouts + 1

    def _still_there(self, held: Status, observations: Sequence[Observation]) -> bool:
        """Who was accepted and has not left is not checked again and again."""
        if held.state is not State.ACCEPTED:
            return False
        there = [self._visits.get(seen.track) for seen in observations if seen.face is not None]
        return any(visit is not None and visit.outcome == ACCEPTED for visit in there)

    def _describe(self, seen: Observation, time_s: float) -> Status:
        if seen.face is None:
            return self._tell(State.SEARCHING, time_s, seen.reason, ADVICE[seen.reason])
        visit = self._visits.get(seen.track)
        asked = visit.challenge if visit and visit.challenge and visit.challenge.state == ASKING else None
        if visit is None or (seen.reason and not asked):
            return self._tell(State.HOLD_STILL, time_s, seen.reason, ADVICE.get(seen.reason, ""))
        advice = asked.words if asked else ""
        evidence = visit.evidence
        share = evidence.share(evidence.likeliest)
        return self._tell(State.CHECKING, time_s, "", advice, share=share, frames=evidence.frames)

    def _forget_who_left(self, time_s: float) -> None:
        for number, visit in list(self._visits.items()):
            if time_s - visit.seen_s > LEFT_S:
                del self._visits[number]
                tried = visit.challenge or visit.evidence.frames >= GAVE_UP * self.test.rates.frames
                if tried and not visit.outcome:
                    self._count(False, time_s)

    def _repeat(self, held: Status, time_s: float) -> Status:
        return self._tell(held.state, time_s, held.reason, held.advice, held.user, held.share, held.frames)

    def _tell(
        self, state: State, time_s: float, reason: str = "", advice: str = "", user: str = "", share: float = 0.0,
        frames: int = 0, decision: Decision | None = None,
    ) -> Status:  # fmt: skip
        last = self._last
        changed = decision is not None or (state, reason, user) != (last.state, last.reason, last.user)
        self._last = Status(state, time_s, changed, reason, advice, user, share, frames, decision)
        return self._last
