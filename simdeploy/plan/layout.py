"""The parts of a plan's environment that never change while it runs, and the signature of a state.

Instances that are alike (same service, same start, alone on their machine) are merged into a class: what a
state costs depends only on how many of each class are in which condition. The counts of all (class, condition)
pairs, written as the digits of one integer, are the state's *signature*. Two states with the same signature
cost the same, so what is known about one is kept for the next, across replications too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from simdeploy.environment.models import Environment
from simdeploy.environment.stores import Copy, Standby
from simdeploy.plan.effects import Effect
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import ROLLBACK, Step

ABSENT, OUT, STARTING, DRAINING, DEAD, SERVING = range(6)
"""How an instance stands: not there; off the balancer; waiting for its health check to rise; finishing what it
has; gone but still in the balancer's pool; serving."""

MODE, KILL, START, VERSION, SCHEMA, LEAD, POINT, RESTORE, SPLIT, OPEN, VALIDATED, WEIGHT, REWIND = range(13)
"""What a compiled effect does; MODE covers every verb that sets how an instance stands and starts no timer."""

Operation = tuple[int, int, Any]
"""(what, position of the instance or service, argument)"""

WRITTEN_OFF = ("written off", 0)
"""In a signature: how many machines would be paid for if they had not died for good."""

LEADING = ("leader_elected", "datastore")

Fate = tuple[tuple[int, ...], ...]
"""Groups of machines, by position: what shares their fate is lost while all of one group are dead."""


class Condition(NamedTuple):
    """How an instance stands, what it runs, what share of its capacity is left and how much its balancer favours it."""

    mode: int
    version: str | int
    factor: float
    weight: float = 1.0


class Site(NamedTuple):
    """Where a store and its copies are."""

    standbys: tuple[int, ...] = ()
    """Instances that follow at the start, by position."""
    machine_of: Sequence[int] = ()
    """Of each instance: its machine."""
    fates: tuple[Fate, ...] = ()
    """Of each copy; standbys have none as such, since each shares that of its own machine."""


class Signature:
    """Digits of one integer: one per (class or attribute, condition) that was ever met."""

    def __init__(self, largest: int) -> None:
        self._bits = largest.bit_length() + 1
        self._mask = (1 << self._bits) - 1
        self.slots: list[tuple[Any, Any]] = []
        """Of each digit: (class or attribute, what was met of it)."""
        self._index: dict[tuple[Any, Any], int] = {}

    def weight(self, subject: Any, met: Any) -> int:
        """What one more of *subject* being *met* adds to the signature."""
        slot = self._index.get((subject, met))
        if slot is None:
            slot = self._index[subject, met] = len(self.slots)
            self.slots.append((subject, met))
        return 1 << (slot * self._bits)

    def counts(self, signature: int) -> list[tuple[Any, Any, int]]:
        """(class or attribute, what was met, how often) of every digit that is not zero."""
        found = []
        for slot in self.slots:
            digit = signature & self._mask
            if digit:
                found.append((*slot, digit))
            signature >>= self._bits
            if not signature:
                break
        return found


class Weights(dict[int, int]):
    """Code of a condition -> what an instance of one class in it adds to the signature (not its weight at the balancer)."""

    def __init__(self, layout: Layout, group: int) -> None:
        super().__init__()
        self._layout = layout
        self._group = group

    def __missing__(self, code: int) -> int:
        condition = self._layout.conditions[code]
        mode = OUT if condition.mode in (STARTING, DRAINING) else condition.mode  # neither takes new requests: the same to users
        met = condition if mode == SERVING else Condition(mode, "", 1.0, condition.weight if mode == DEAD else 1.0)
        weight = self[code] = self._layout.signature.weight(self._group, met)
        return weight


class Layout:
    """What State and the facts of a state need of a plan, derived once for all its runs."""

    def __init__(self, plan: Plan) -> None:
        env = plan.environment
        self.plan = plan
        self.instances = list(env.instances)
        self.index = {name: i for i, name in enumerate(self.instances)}
        self.service_names = list(env.services)
        self.service_index = {name: i for i, name in enumerate(self.service_names)}
        self.services = list(env.services.values())
        self.service_of = [self.service_index[s] for s, _ in env.instances.values()]
        self.members = [[self.index[m] for m in env.members(s)] for s in self.service_names]
        self.machine_of = [env.machine_index[m] for _, m in env.instances.values()]
        self.on_machine: list[list[int]] = [[] for _ in env.machines]
        for i, machine in enumerate(self.machine_of):
            self.on_machine[machine].append(i)
        self.leading = [s.role in LEADING or (s.role == "quorum" and s.serves == "leader") for s in self.services]
        self.through = [None if s.elected_through is None else self.service_index[s.elected_through] for s in self.services]
        """Of each service: the store through which its leaders are elected."""
        self.electing = [[s for s, through in enumerate(self.through) if through == store] for store in range(len(self.services))]
        """Of each store: the services whose leaders are elected through it."""
        self.conditions: list[Condition] = [Condition(ABSENT, "", 0.0)]
        self._codes: dict[Condition, int] = {}
        self._changed: dict[tuple[Any, ...], int] = {}
        self.modes: list[dict[int, int]] = [{} for _ in range(6)]
        """Of each mode: code of a condition -> code of the same one in that mode."""
        self._number_pools(env)
        self._start()
        self.sites = {s: self._site(env, s, service.store.copies) for s, service in enumerate(self.services) if service.store is not None}
        """Of each store: where it and its copies are."""
        spares = {env.machine_index[m] for m in plan.start.spares}
        boxes = list(zip(self.on_machine, env.machines, strict=True))
        self.paid_by_use = [bool(on) and not m.hosted and k not in spares for k, (on, m) in enumerate(boxes)]
        """Of each machine: whether it is paid for as long as anything is on it."""
        self.paid_always = [not paid and not m.hosted for paid, m in zip(self.paid_by_use, env.machines, strict=True)]
        """Of each machine: whether it is paid for whatever is on it, as spares are and what has no instance."""
        self._merge()
        self.begin = [self._compile(step, step.begin) for step in plan.steps]
        self.end = [self._compile(step, step.end) for step in plan.steps]
        self.slow = [tuple((self.index[i], factor) for i, factor in step.slow) for step in plan.steps]
        self.draining = {k: self.index[step.target] for k, step in enumerate(plan.steps) if step.until_idle}
        """Steps that last until their target's last request has ended -> the target."""
        self.replaying = {k: self.service_index[step.replays] for k, step in enumerate(plan.steps) if step.replays}
        """Steps that last until the log is replayed -> the store."""
        self.joins = {k for k, step in enumerate(plan.steps) if any(effect[0] == "join" for effect in (*step.begin, *step.end))}
        self.brought = self._brought()
        """(service, version) -> the part of the plan, main section or forward round, that brings it first."""
        self.watches = self._may_change_unobserved()
        timed = self.joins | set(self.draining) | {op[2] for end in self.end for op in end if op[0] == REWIND}
        self.lasting = [
            self.watches or bool(slow) or k in timed or any(op[0] in (POINT, REWIND) for op in end)
            for k, (slow, end) in enumerate(zip(self.slow, self.end, strict=True))
        ]
        """Steps that matter for as long as they run, not only when they begin and end."""

    def _number_pools(self, env: Environment) -> None:
        """Instances that one balancer shares requests among form a pool: those of a service, of a pinned one those in a cell."""
        cells: list[str | None] = [*env.cells] or [None]
        pools = {(s, cell): None for s, name in enumerate(self.service_names) for cell in (cells if name in env.pinned else [None])}
        numbers = {pool: p for p, pool in enumerate(pools)}
        self.pool_service = [s for s, _ in pools]
        """Of each pool: its service. Without cells pool and service have the same number."""
        self.regions = [
            (
                env.cell_shares[cell] if cell else 1.0,
                [numbers[s, cell if name in env.pinned else None] for s, name in enumerate(self.service_names)],
            )
            for cell in cells
        ]
        """Of each cell, or of the whole: (share of the demand, the pool that serves there of each service)."""
        self._pool_of = [
            numbers[s, env.cell_of[machine] if name in env.pinned else None]
            for name, machine in env.instances.values()
            for s in (self.service_index[name],)
        ]

    def _start(self) -> None:
        start, env = self.plan.start, self.plan.environment
        modes = {**dict.fromkeys(start.out, OUT), **dict.fromkeys(start.absent, ABSENT)}
        versions = [s.version for s in self.services]
        self.start_codes = [
            self.code(Condition(modes.get(name, SERVING), "1" if s.role == "datastore" else versions[self.service_index[n]], 1.0))
            for name, (n, _) in env.instances.items()
            for s in (env.services[n],)
        ]
        self.start_versions = [self.conditions[c].version for c in self.start_codes]
        self.start_leaders: list[int | None] = []
        for s, members in enumerate(self.members):
            led_on = self.services[s].leader
            named = start.leaders.get(self.service_names[s]) or (f"{self.service_names[s]}@{led_on}" if led_on else None)
            serving = [i for i in members if self.conditions[self.start_codes[i]].mode == SERVING]
            leader = self.index[named] if named else next(iter(serving), None)
            self.start_leaders.append(leader if self.leading[s] else None)

    def _site(self, env: Environment, s: int, copies: tuple[Copy, ...]) -> Site:
        standbys = [i for i in self.members[s] if i != self.start_leaders[s] and self.conditions[self.start_codes[i]].mode == SERVING]
        fates: list[Fate] = []
        for copy in copies:
            groups: list[tuple[int, ...]] = []
            if not isinstance(copy, Standby) and copy.on is not None:
                groups.append((env.machine_index[copy.on],))
            if not isinstance(copy, Standby) and copy.zone is not None:
                standing = [k for k, machine in enumerate(env.machines) if machine.zone == copy.zone]
                own = [k for k in standing if not env.machines[k].hosted]  # a hosted one is its provider's, and survives
                groups.append(tuple(own or standing))
            fates.append(tuple(groups))
        return Site(tuple(standbys), self.machine_of, tuple(fates))

    def _merge(self) -> None:
        """Put like instances into classes: `group` of each, and what each class is."""
        groups: dict[Any, int] = {}
        self.group: list[int] = []
        self.group_service: list[int] = []
        self.group_pool: list[int] = []
        self.group_machine: list[int | None] = []
        """The machine of a class of one; None for a class whose members are alone on like machines."""
        for i, s in enumerate(self.service_of):
            machine = self.machine_of[i]
            alone = len(self.on_machine[machine]) == 1 and not self.leading[s]
            name: Any = (self._pool_of[i], self.start_codes[i], self.paid_by_use[machine]) if alone else i
            if name not in groups:
                groups[name] = len(groups)
                self.group_service.append(s)
                self.group_pool.append(self._pool_of[i])
                self.group_machine.append(None if alone else machine)
            self.group.append(groups[name])
        self.group_paid = {g: self.paid_by_use[self.machine_of[i]] for i, g in enumerate(self.group)}
        self.group_start = {g: self.start_codes[i] for i, g in enumerate(self.group)}
        self.signature = Signature(max(len(self.instances), len(self.plan.steps)))
        weights = [Weights(self, g) for g in range(len(groups))]
        self.weights = [weights[g] for g in self.group]

    def code(self, condition: Condition) -> int:
        """The number of a condition, the same one every time."""
        code = self._codes.get(condition)
        if code is None:
            code = self._codes[condition] = len(self.conditions)
            self.conditions.append(condition)
        return code

    def in_mode(self, code: int, mode: int) -> int:
        """The code of the condition *code* in another mode."""
        new = self.modes[mode][code] = self.code(self.conditions[code]._replace(mode=mode))
        return new

    def changed(self, code: int, **change: Any) -> int:
        """The code of the condition *code* with another version, factor or weight."""
        key = (code, *change.items())
        new = self._changed.get(key)
        if new is None:
            new = self._changed[key] = self.code(self.conditions[code]._replace(**change))
        return new

    def _compile(self, step: Step, effects: tuple[Effect, ...]) -> tuple[Operation, ...]:
        return tuple(self._operation(effect) for effect in effects)

    def _operation(self, effect: Effect) -> Operation:
        verb, arguments = str(effect[0]), effect[1:]
        if verb in ("drain", "out", "serve", "remove", "kill", "start", "version", "weight"):
            i = self.index[str(arguments[0])]
            if verb in ("version", "weight"):
                return (VERSION if verb == "version" else WEIGHT, i, arguments[1])
            watched = self.services[self.service_of[i]].health_check is not None
            if verb == "kill" and (watched or self.leading[self.service_of[i]]):
                return (KILL, i, None)
            if verb == "start" and watched:
                return (START, i, None)
            return (MODE, i, {"drain": DRAINING, "out": OUT, "kill": OUT, "serve": SERVING, "start": SERVING, "remove": ABSENT}[verb])
        if verb in ("open", "validated"):
            return (OPEN if verb == "open" else VALIDATED, 0, None)
        s = self.service_index[str(arguments[0])]
        if verb in ("split", "join"):
            return (SPLIT, s, verb == "split")
        if verb == "lead":
            return (LEAD, s, None if len(arguments) < 2 or arguments[1] is None else self.index[str(arguments[1])])
        if verb == "rewind":
            return (REWIND, s, self.plan.wiring.position[str(arguments[1])])
        return ({"schema": SCHEMA, "point": POINT, "restore": RESTORE}[verb], s, arguments[1] if len(arguments) > 1 else None)

    def _brought(self) -> dict[tuple[int, str | int], int]:
        known = {(s, v) for s, v in zip(self.service_of, self.start_versions, strict=True)}
        brought: dict[tuple[int, str | int], int] = {}
        for step, *operations in zip(self.plan.steps, self.begin, self.end, strict=True):
            for what, i, version in (op for ops in operations for op in ops):
                name = (self.service_of[i], version) if what == VERSION else None
                if name is not None and name not in known and step.part != ROLLBACK:
                    brought[name] = min(step.part, brought.get(name, step.part))
        return brought

    def _may_change_unobserved(self) -> bool:
        """Whether any step may run on a machine that no serving monitor watches: some monitor is touched, absent or partial."""
        monitors = {s for s, service in enumerate(self.services) if service.role == "monitoring"}
        if not monitors:
            return False
        touched = {self.service_of[op[1]] for ops in (*self.begin, *self.end) for op in ops if op[0] in (MODE, KILL, START)}
        away = {self.service_of[self.index[i]] for i in (*self.plan.start.absent, *self.plan.start.out)}
        partial = all(self.services[s].observes is not None for s in monitors)
        mortal = bool(self.plan.crashes) or any(m.mtbf_s is not None for m in self.plan.environment.machines)
        return bool((touched | away) & monitors) or mortal or partial
