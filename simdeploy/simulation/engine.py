"""The discrete-event engine: SimPy owns the clock, `progress` the order, `state` the meaning. The only door to simpy.

One SimPy event per attempt, and one per timer of the world: an attempt needs no process of its own because all
it does is end. What ends at one instant is gathered and settled together, in the order of model.md: attempt
ends in plan order, the world, judges, begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import simpy

from simdeploy.environment.models import HealthCheck
from simdeploy.environment.residuals import residual
from simdeploy.errors import PlanError
from simdeploy.plan.exposure import History
from simdeploy.plan.facts import FactBook
from simdeploy.plan.layout import Layout
from simdeploy.plan.measurement import Meter, Run
from simdeploy.plan.plan import Plan
from simdeploy.plan.progress import FAILED, SUCCEEDED, Progress, Result, order
from simdeploy.plan.state import Timer
from simdeploy.plan.steps import MAIN
from simdeploy.plan.trace import GONE, Record, Trace
from simdeploy.simulation.sampler import Draws, Stream, stream_names
from simdeploy.units import format_s

MOST_DEATHS = 10_000
"""Of one machine in one run: with more, a step that takes far longer than the machine lives would run for ever."""
FAR_S = 30 * 86400.0
"""How far ahead changes of demand are known at least."""


class Engine:
    """Runs one plan any number of times; what is learned of a state in one run serves the next."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.layout = Layout(plan)
        self.book = FactBook(self.layout)
        self.order = order(plan)
        self.names: list[Stream] = stream_names(plan)
        far_s = max(10 * (plan.horizon_s or 0.0), FAR_S)
        self.demand = plan.environment.demand.levels(far_s, plan.start.starts_at_s)
        """(moment [s], rate [req/s]) far beyond any plausible end; a run follows them one at a time."""
        self.machine = [s.on for s in plan.steps]
        self.gates = [s.gate for s in plan.steps]
        self.draining = self.layout.draining
        self.derived = frozenset(self.draining) | frozenset(self.layout.replaying)
        """Steps whose length follows from the state in which they begin."""
        self.mortal = [k for k, m in enumerate(plan.environment.machines) if m.mtbf_s is not None]

    def runs(self, draws: Draws) -> Iterator[Run]:
        """One Run per replication of *draws*, in order."""
        for r, (durations, failing) in enumerate(draws.rows()):
            yield _Replication(self, draws, r, durations, failing, None).run()

    def trace(self, draws: Draws) -> Trace:
        """The records of the first replication of *draws*."""
        return next(self.traces(draws))

    def traces(self, draws: Draws) -> Iterator[Trace]:
        """The records of each replication of *draws*, in order."""
        for r, (durations, failing) in enumerate(draws.rows()):
            records: list[Record] = []
            run = _Replication(self, draws, r, durations, failing, records).run()
            yield Trace(records, run.end_s, run.outcome)

    def timed_runs(self, draws: Draws) -> Iterator[tuple[Run, list[float], list[float]]]:
        """Like `runs`, each with when the steps began and when they ended, by position in the plan [s].

        A judge begins and ends with its verdict; nan where a step did not begin, inf where it began and never ended.
        """
        for r, (durations, failing) in enumerate(draws.rows()):
            replication = _Timed(self, draws, r, durations, failing, [])
            yield replication.run(), replication.begins_s, replication.ends_s


class _Replication:
    """One run. Attempts, retries and timers are SimPy events; their callbacks gather, `_settle` decides."""

    def __init__(
        self, engine: Engine, draws: Draws, r: int, durations: list[float], failing: set[int], records: list[Record] | None
    ) -> None:
        self._engine, self._draws, self._r = engine, draws, r
        self._durations, self._failing, self._records = durations, failing, records
        self._env = simpy.Environment()
        self._progress = Progress(engine.order)
        self._meter = Meter(engine.layout, engine.book, engine.demand[0][1], draws.bad(r))
        self._due: list[int] = []
        self._world: list[Any] = []
        self._current: dict[int, simpy.Event] = {}
        """Of each running step: the event that ends its attempt or its retry delay; absent while its machine is dead."""
        self._attempts: dict[int, int] = {}
        """Of each step that was attempted again: how many retries it has used."""
        self._drawn: dict[int, int] = {}
        """Of the same: the number of its latest draw; an attempt that a crash broke costs a draw and no retry."""
        self._delayed: set[int] = set()
        self._late: set[int] = set()
        """Replays that their time-out ends."""
        self._broken: dict[str, list[int]] = {}
        """Machine that is dead -> the steps whose attempts its death broke."""
        self._deaths: dict[str, int] = {}
        """Of each dead machine: how many crashes hold it down."""
        self._gone: set[str] = set()
        """Machines that never return."""
        self._timers: dict[Stream, int] = {}
        self._finished = False

    def run(self) -> Run:
        """Run to the end of the plan and of its horizon."""
        plan, env = self._engine.plan, self._env
        for part in sorted(self._meter.bad):
            self._record("bad_release", "main" if part == MAIN else "forward", part or "")
        for crash in plan.crashes:
            self._at(crash.at_s, partial(self._crash, crash.machine, crash.for_s))
        for corruption in plan.corruptions:
            self._at(corruption.at_s, partial(self._corrupt, corruption.store))
        for machine in self._engine.mortal:
            self._let_live(machine, 1)
        self._demand(iter(self._engine.demand))
        if env.peek() > 0:
            self._settle()
        while not self._finished:
            env.step()
        outcome = self._progress.outcome or "stuck"
        stuck_at_s = env.now if outcome == "stuck" else 0.0
        return self._meter.close(outcome, max(self._meter.makespan_s, plan.horizon_s or 0.0, stuck_at_s))

    def _demand(self, levels: Iterator[tuple[float, float]]) -> None:
        next(levels)

        def follow() -> None:
            level = next(levels, None)
            if level is not None:
                self._at(level[0] - self._env.now, partial(change, level[1]))

        def change(rate_per_s: float) -> None:
            self._record("demand", "users", rate_per_s)
            self._meter.state.demanded(rate_per_s)
            follow()

        follow()

    def _at(self, delay_s: float, act: Any) -> None:
        """Let the world *act* after *delay_s*."""
        simpy.Timeout(self._env, delay_s, act).callbacks.append(self._on_world)

    def _on_world(self, event: simpy.Event) -> None:
        self._world.append(event.value)
        if self._env.peek() > self._env.now:
            self._settle()

    def _on_attempt(self, event: simpy.Event) -> None:
        step: int = event._value
        if self._current.get(step) is event:
            self._due.append(step)
        env = self._env
        if not env._queue or env._queue[0][0] > env._now:
            self._settle()

    def _settle(self) -> None:
        """Decide about everything that has come up at this instant."""
        due, now = self._due, self._env._now
        if due:
            self._due = []
            if len(due) > 1:
                due.sort()
            for step in due:
                if self._progress.results[step] is None:  # else an abort at this instant has cut it short
                    self._over(step)
        if self._world:
            world, self._world = self._world, []
            for act in world:
                act()
        progress = self._progress
        while True:
            if progress.passed:
                self._pass()
            verdicts = progress.judged()
            for judge, verdict in verdicts:
                self._record("ended", judge, verdict)
                self._meter.makespan_s = now
                if verdict == FAILED:
                    self._meter.failed(now)
            if progress.aborts:
                self._abort()
            begun = progress.started()
            if progress.passed:
                self._pass()
            for step in begun:
                self._begin(step)
            if not progress.has_verdicts():
                break
        if self._meter.state.timers:
            self._start_timers()
        self._meter.instant_over(now)
        if progress.outcome is not None or (not self._current and self._is_stuck()):
            self._finish()

    def _is_stuck(self) -> bool:
        """Whether every step that is left waits for a machine that never returns; nothing runs."""
        waiting = {machine for machine, steps in self._broken.items() if steps} | self._progress.awaited()
        return waiting <= self._gone

    def _finish(self) -> None:
        """The plan is over (or stuck): follow the world to the horizon, then stop."""
        now, horizon_s = self._env.now, self._engine.plan.horizon_s or 0.0
        if now >= horizon_s or self._env.peek() > horizon_s:
            self._finished = True

    def _pass(self) -> None:
        for step, result in self._progress.passed:
            self._record("ended", step, result)
            self._meter.passed(step, self._env.now)
            if self._current.pop(step, None) is not None:
                self._delayed.discard(step)
            for broken in self._broken.values():
                if step in broken:
                    broken.remove(step)
        self._progress.passed.clear()

    def _abort(self) -> None:
        for step, reaction in self._progress.aborts:
            self._record("aborted", step, reaction)
            self._meter.aborted(reaction, self._env.now)
        self._progress.aborts.clear()
        self._pass()
        if self._progress.gives_up:
            self._give_up()

    def _give_up(self) -> None:
        """While a section is left for another no further attempt begins: what waits for one has failed."""
        for step in sorted([*self._delayed, *(i for steps in self._broken.values() for i in steps)]):
            self._end(step, FAILED)
        for steps in self._broken.values():
            steps.clear()

    def _begin(self, step: int) -> None:
        self._meter.began(step, self._env._now)
        if self._records is not None:
            self._record("began", step)
        length_s = self._durations[step]
        if step in self._engine.derived:
            length_s = self._derived_s(step, length_s)
        event = self._current[step] = simpy.Timeout(self._env, length_s, step)
        event.callbacks.append(self._on_attempt)

    def _over(self, step: int) -> None:
        """An attempt, or the pause after one, is over."""
        if step in self._delayed:
            self._delayed.discard(step)
            self._again(step)
            return
        fails = self._draws.attempt(self._r, step, n)[1] if self._drawn and (n := self._drawn.get(step, 0)) else step in self._failing
        if self._late and step in self._late:
            self._late.discard(step)
            fails = True
        gate = self._engine.gates[step]
        if gate is not None and not fails:
            chance = gate.sensitivity if self._meter.serves_bad(gate.of == "monitoring") else gate.false_alarms
            fails = self._draws.gate(self._r, step) < chance
            self._end(step, FAILED if fails else SUCCEEDED)
        elif not fails:
            self._end(step, SUCCEEDED)
        else:
            self._retry_or_fail(step)

    def _retry_or_fail(self, step: int) -> None:
        n = self._attempts.get(step, 0) + 1
        if n > self._engine.plan.steps[step].retries or self._progress.gives_up:
            self._end(step, FAILED)
            return
        self._attempts[step] = n
        self._delayed.add(step)
        event = self._current[step] = simpy.Timeout(self._env, self._draws.retry_delay(self._r, step, n), step)
        event.callbacks.append(self._on_attempt)

    def _again(self, step: int) -> None:
        """Begin another attempt, unless its machine is dead (it then begins at the repair)."""
        machine = self._engine.machine[step]
        if machine in self._broken:
            self._broken[machine].append(step)
            del self._current[step]
            return
        self._attempt(step)

    def _attempt(self, step: int) -> None:
        self._drawn[step] = n = self._drawn.get(step, 0) + 1
        length_s = self._draws.attempt(self._r, step, n)[0]
        if step in self._engine.derived:
            if step in self._engine.draining:
                self._record("again", step)
                self._meter.attempted(step, self._env.now)
            length_s = self._derived_s(step, length_s)
        event = self._current[step] = simpy.Timeout(self._env, length_s, step)
        event.callbacks.append(self._on_attempt)

    def _derived_s(self, step: int, u: float) -> float:
        """How long an attempt takes whose length follows from the state, at the uniform *u*."""
        return self._until_idle_s(step, u) if step in self._engine.draining else self._replay_s(step)

    def _replay_s(self, step: int) -> float:
        """How long the log is replayed that the latest restore left to be; a time-out cuts that and the attempt fails.

        A standby that is to take over and holds less than a backup has that read back to it first. What has no rate takes no time.
        """
        layout, timeout_s = self._engine.layout, self._engine.plan.steps[step].timeout_s
        s = layout.replaying[step]
        service, store = layout.services[s], layout.services[s].store
        assert store is not None  # a plan with such a step has one
        events = [e for e in self._meter.state.store_events if e.service == s]
        phases = self._draws.phases(self._r)[layout.service_names[s]]
        target = layout.index.get(self._engine.plan.steps[step].target or "")
        onto = target if target in layout.sites[s].standbys else None
        log_s, is_read_back = History(store, events, layout.sites[s], phases).replay(onto)
        length_s = log_s * store.replay_s_per_s + ((service.read_back_s or 0.0) if is_read_back else 0.0)
        if timeout_s is not None and length_s > timeout_s:
            self._late.add(step)
            return timeout_s
        return length_s

    def _until_idle_s(self, step: int, u: float) -> float:
        """How long a drain lasts that began with what its target then held, at the uniform *u*."""
        layout, spec = self._engine.layout, self._engine.plan.steps[step]
        hold = layout.services[layout.service_of[layout.draining[step]]].hold
        assert hold is not None and spec.timeout_s is not None  # a plan with such a step has both
        held = self._meter.held(step)
        return min(spec.timeout_s, residual(hold).longest_s(held, u)) if held > 0 else 0.0

    def _end(self, step: int, result: Result) -> None:
        self._current.pop(step, None)
        self._delayed.discard(step)
        self._meter.ended(step, result, self._env._now)
        if self._records is not None:
            self._record("ended", step, result)
        self._progress.ended(step, result)

    def _let_live(self, machine: int, n: int) -> None:
        """Let the n-th death by chance of a machine come."""
        life_s = self._draws.life(self._r, machine, n)
        if life_s < math.inf:
            self._at(life_s, partial(self._die, machine, n))

    def _die(self, machine: int, n: int) -> None:
        box = self._engine.plan.environment.machines[machine]
        if n > MOST_DEATHS:
            raise PlanError(
                f"machine {box.name!r} died {MOST_DEATHS:,} times in one run: with an mtbf of {format_s(box.mtbf_s or 0.0)} "
                "a step on it may never end; give it a longer mtbf"
            )
        repair_s = self._draws.repair(self._r, machine, n)
        self._crash(box.name, repair_s)
        if repair_s is not None:
            self._at(repair_s, partial(self._let_live, machine, n + 1))

    def _crash(self, machine: str, for_s: float | None) -> None:
        plan, state = self._engine.plan, self._meter.state
        self._record("crashed", machine, GONE if for_s is None else "")
        state.crashed(plan.environment.machine_index[machine], self._env.now, for_s is not None)
        self._progress.machine_down(machine)
        hit = [i for i in self._current if self._engine.machine[i] == machine and i not in self._delayed]
        self._broken.setdefault(machine, [])
        self._deaths[machine] = self._deaths.get(machine, 0) + 1
        for step in sorted(hit):
            del self._current[step]
            if plan.after_crash == "retry" and not self._progress.gives_up:
                self._broken[machine].append(step)
            else:
                self._end(step, FAILED)
                if plan.after_crash == "abort":
                    self._progress.abort(plan.on_abort, step)
        if for_s is None:
            self._gone.add(machine)
        else:
            self._at(for_s, partial(self._repair, machine))

    def _corrupt(self, store: str) -> None:
        self._record("corrupted", store)
        self._meter.state.corrupted(self._engine.layout.service_index[store], self._env.now)

    def _repair(self, machine: str) -> None:
        self._deaths[machine] -= 1
        if self._deaths[machine]:
            return
        self._record("repaired", machine)
        self._meter.state.repaired(self._engine.plan.environment.machine_index[machine], self._env.now)
        self._progress.machine_up(machine)
        for step in self._broken.pop(machine):
            self._attempt(step)

    def _next(self, name: Stream) -> int:
        """How often *name* was met before in this run."""
        n = self._timers.get(name, 0)
        self._timers[name] = n + 1
        return n

    def _start_timers(self) -> None:
        """Give each timer that the state started its delay."""
        timers = self._meter.state.timers
        for timer in timers:
            self._at(self._delay_s(timer), partial(self._ring, timer))
        timers.clear()

    def _delay_s(self, timer: Timer) -> float:
        layout = self._engine.layout
        if timer.kind in ("elected", "expired"):
            election = layout.services[timer.subject].election
            if timer.kind == "expired":
                return election.detect_s
            return election.elect_s + (election.detect_s if timer.unseen else 0.0)
        service = layout.service_of[timer.subject]
        check = layout.services[service].health_check
        assert isinstance(check, HealthCheck)  # only a checked instance starts such a timer
        stream: Stream = (layout.service_names[service], layout.machine_of[timer.subject], "health_check", timer.kind)
        u = self._draws.other(self._r, (*stream, self._next(stream)))
        needed = check.rise if timer.kind == "risen" else check.fall
        return (needed - 1 + u) * check.interval_s + (check.timeout_s if timer.unseen else 0.0)

    def _ring(self, timer: Timer) -> None:
        state, now = self._meter.state, self._env.now
        names = self._engine.layout.service_names if timer.kind in ("elected", "expired") else self._engine.layout.instances
        if timer.kind == "noticed":
            valid = state.noticed(timer.subject, timer.term)
        elif timer.kind == "risen":
            valid = state.risen(timer.subject, timer.term, now)
        elif timer.kind == "expired":
            valid = state.expired(timer.subject, timer.term)
        else:
            valid = state.elected(timer.subject, timer.term, now)
        if valid:
            self._record(timer.kind, names[timer.subject])

    def _record(self, kind: Any, subject: str | int, value: str | float = "") -> None:
        if self._records is not None:
            name = self._engine.plan.steps[subject].id if isinstance(subject, int) else subject
            self._records.append(Record(self._env.now, kind, name, value))


class _Timed(_Replication):
    """One run of which only the times of its steps are kept: far cheaper than all its records."""

    def __init__(self, engine: Engine, *more: Any) -> None:
        super().__init__(engine, *more)
        self.begins_s = [math.nan] * len(engine.plan.steps)
        self.ends_s = [math.inf] * len(engine.plan.steps)

    def _record(self, kind: Any, subject: str | int, value: str | float = "") -> None:
        if kind == "began" and isinstance(subject, int):
            self.begins_s[subject] = self._env._now
        elif kind == "ended" and isinstance(subject, int):
            self.ends_s[subject] = self._env._now
            if self._engine.plan.steps[subject].kind == "judge" and value in (SUCCEEDED, FAILED):
                self.begins_s[subject] = self._env._now
