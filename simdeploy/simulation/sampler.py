"""Luck by name: every draw is one uniform of a named stream, the same in every rival plan.

A stream is a Philox sequence (counter-based: Salmon et al., SC 2011) whose key is a hash of the seed and the
stream's name, and whose r-th number belongs to replication r. So rival strategies meet the same luck, one
replication can be replayed alone, and no number depends on how replications are split over workers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from simdeploy.environment.durations import Distribution
from simdeploy.plan.exposure import Phases
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import MAIN

Floats = NDArray[np.float64]
Stream = tuple[str | int, ...]
"""(service, ordinal of the instance's machine, action, purpose, n)"""

NONE_BAD: frozenset[int] = frozenset()
_STRIDE = 4
"""Numbers that one Philox counter value yields."""


def uniforms(seed: int, stream: Stream, first: int, count: int) -> Floats:
    """The uniforms in [0, 1) of replications first, first + 1, ... of one stream, shape (count,)."""
    name = repr((seed, *stream)).encode()
    bits = np.random.Philox(key=int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little"))
    skip = first % _STRIDE
    if first >= _STRIDE:
        bits.advance(first // _STRIDE)
    return np.random.Generator(bits).random(skip + count)[skip:]


def stream_names(plan: Plan) -> list[Stream]:
    """The (service, ordinal, action) of each step: its own unless two steps of the plan would share it."""
    env = plan.environment
    names: list[Stream] = []
    times: dict[Stream, int] = {}
    for step in plan.steps:
        service, machine = env.instances.get(step.target, (step.target, ""))
        name: Stream = (service, env.machine_index.get(machine, -1), step.action if "/" in step.id else step.id)
        times[name] = times.get(name, 0) + 1
        names.append((*name, times[name]))
    return names


class Draws:
    """The luck of a block of replications of one plan: replications first .. first + count - 1."""

    def __init__(self, plan: Plan, seed: int, first: int, count: int, names: list[Stream]) -> None:
        self._plan, self._seed, self.first, self.count = plan, seed, first, count
        self._names = names
        self._columns: dict[tuple[int, str, int], list[float]] = {}
        self._others: dict[Stream, list[float]] = {}
        rounds = max((s.part for s in plan.steps), default=MAIN)
        chances = {MAIN: plan.release.p_bad, **dict.fromkeys(range(1, rounds + 1), plan.release.p_bad_fix)}
        self._lives = {
            k: Distribution(kind="exponential", parameters=(m.mtbf_s,))
            for k, m in enumerate(plan.environment.machines)
            if m.mtbf_s is not None
        }
        self._p_bad = [(part, p) for part, p in chances.items() if p > 0]

    def rows(self) -> Iterator[tuple[list[float], set[int]]]:
        """Of each replication: how long the first attempt of each step takes [s], time-outs applied, and which of them fail.

        For a step that lasts until idle the uniform from which its length follows stands in place of that.
        """
        steps = self._plan.steps
        table = np.empty((len(steps), self.count))
        failing: list[tuple[int, NDArray[np.bool_]]] = []
        for i, step in enumerate(steps):
            if step.until_idle:
                table[i] = self._uniforms(i, "duration", 0)
            elif step.duration.is_fixed:
                table[i] = step.duration.mean_s
            else:
                table[i] = step.duration.inverse(self._uniforms(i, "duration", 0))
            fails = np.zeros(self.count, dtype=bool) if step.p_fail == 0 else self._uniforms(i, "failure", 0) < step.p_fail
            if step.timeout_s is not None and not step.until_idle:
                fails |= table[i] > step.timeout_s
                np.minimum(table[i], step.timeout_s, out=table[i])
            if fails.any():
                failing.append((i, fails))
        for r, row in enumerate(np.ascontiguousarray(table.T)):
            yield row.tolist(), {i for i, fails in failing if fails[r]}

    def attempt(self, r: int, step: int, n: int) -> tuple[float, bool]:
        """(duration [s], whether it fails) of the n-th retry of a step in the block's r-th replication; until idle: its uniform."""
        spec = self._plan.steps[step]
        duration = self._column(step, "duration", n, None if spec.until_idle else spec.duration)[r]
        fails = spec.p_fail > 0 and self._column(step, "failure", n)[r] < spec.p_fail
        if spec.timeout_s is not None and duration > spec.timeout_s and not spec.until_idle:
            return spec.timeout_s, True
        return duration, fails

    def retry_delay(self, r: int, step: int, n: int) -> float:
        """The pause [s] before the n-th retry of a step."""
        return self._column(step, "retry_delay", n, self._plan.steps[step].retry_delay)[r]

    def gate(self, r: int, step: int) -> float:
        """The uniform by which a gate errs or not."""
        return self._column(step, "gate", 0)[r]

    def bad(self, r: int) -> frozenset[int]:
        """The parts of the plan (0 the main section, k the k-th forward round) that bring a bad release in this replication."""
        if not self._p_bad:
            return NONE_BAD
        return frozenset(part for part, p in self._p_bad if self.other(r, ("", -1, "release", "bad", part)) < p)

    def life(self, r: int, machine: int, n: int) -> float:
        """How long the machine at this position, which has an mtbf, lives before its n-th death [s], from 0 or the repair before."""
        return self._drawn(r, machine, "failure", n, self._lives[machine])

    def repair(self, r: int, machine: int, n: int) -> float | None:
        """From its n-th death until it is back [s]; None = it never returns."""
        repair = self._plan.environment.machines[machine].repair
        return None if repair is None else self._drawn(r, machine, "repair", n, repair)

    def _drawn(self, r: int, machine: int, purpose: str, n: int, distribution: Distribution) -> float:
        stream: Stream = ("", machine, "machine", purpose, n)
        column = self._others.get(stream)
        if column is None:
            column = self._others[stream] = distribution.inverse(uniforms(self._seed, stream, self.first, self.count)).tolist()
        return column[r]

    def other(self, r: int, stream: Stream) -> float:
        """The uniform of a stream that belongs to no step."""
        column = self._others.get(stream)
        if column is None:
            column = self._others[stream] = uniforms(self._seed, stream, self.first, self.count).tolist()
        return column[r]

    def phases(self, r: int) -> dict[str, Phases]:
        """Where the periodic copies of each store stand at the plan's start."""
        starts_at_s = self._plan.start.starts_at_s
        drawn = {
            name: [self.other(r, (name, -1, kind, "phase", 0)) for kind in ("backup", "log_archive")]
            for name, service in self._plan.environment.services.items()
            if service.store is not None
        }
        return {name: Phases(backup, archive, starts_at_s) for name, (backup, archive) in drawn.items()}

    def _uniforms(self, step: int, purpose: str, n: int) -> Floats:
        return uniforms(self._seed, (*self._names[step], purpose, n), self.first, self.count)

    def _column(self, step: int, purpose: str, n: int, distribution: Distribution | None = None) -> list[float]:
        key = (step, purpose, n)
        column = self._columns.get(key)
        if column is None:
            u = self._uniforms(step, purpose, n)
            column = self._columns[key] = (u if distribution is None else distribution.inverse(u)).tolist()
        return column


class Means(Draws):
    """No luck at all: every duration at its mean, every timer in the middle, nothing fails and no release is bad."""

    def __init__(self, plan: Plan, names: list[Stream]) -> None:
        super().__init__(plan, 0, 0, 1, names)

    def rows(self) -> Iterator[tuple[list[float], set[int]]]:
        """One replication: every first attempt at its mean, none failing."""
        yield [self.attempt(0, i, 0)[0] for i in range(len(self._plan.steps))], set()

    def attempt(self, r: int, step: int, n: int) -> tuple[float, bool]:
        """Any further attempt (a crash broke the one before) is like the first."""
        spec = self._plan.steps[step]
        return 0.5 if spec.until_idle else spec.duration.mean_s, False

    def gate(self, r: int, step: int) -> float:
        """A gate that never errs on a good release."""
        return 1.0

    def bad(self, r: int) -> frozenset[int]:
        """Every release is good."""
        return NONE_BAD

    def life(self, r: int, machine: int, n: int) -> float:
        """No machine dies."""
        return math.inf

    def other(self, r: int, stream: Stream) -> float:
        """The middle of every timer."""
        return 0.5
