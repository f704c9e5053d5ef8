"""The steps of a recovery: as parallel as the graph allows, from the disaster to the validation and the lost redundancy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import networkx as nx

from simdeploy.environment.durations import ZERO, Duration, fixed
from simdeploy.environment.models import CHANGING, GIVING, Action
from simdeploy.environment.models import Recovery as Procedure
from simdeploy.plan.plan import Corruption, Crash, Plan, Start
from simdeploy.plan.steps import Step
from simdeploy.planning.base import Scenario
from simdeploy.planning.builder import HOSTING, TAKE, Builder, Rules
from simdeploy.planning.lanes import allocated, rise
from simdeploy.planning.recovery import Case, StoreCase, datastores

Effects = tuple[tuple[Any, ...], ...]
Ids = tuple[str, ...]


def recovery_plan(
    scenario: Scenario,
    name: str,
    case: Case,
    people: Procedure,
    spares: int,
    *,
    about: str | None = None,
    to: Mapping[str, str] | None = None,
) -> Plan:
    """The plan of the strategy *name* of *scenario*, by which *case* is recovered from with so many *spares*.

    What people do meanwhile is *about* this service, by default the entry; new machines bring the versions *to*.
    """
    build = Builder(case.env, to or {}, scenario.forks, Rules())
    _Recovery(build, case, people, spares).collect(about or case.env.entry)
    return scenario.finished(
        name,
        build,
        start=Start(absent=case.absent, spares=build.stand_by(spares), starts_at_s=scenario.starts_at_s),
        crashes=tuple(Crash(machine=machine, at_s=0.0) for machine in case.lost),
        corruptions=() if case.corrupted is None else (Corruption(store=case.corrupted, at_s=0.0),),
        disaster_at_s=0.0,
    )


class Move(NamedTuple):
    """One step of a lane before it has its neighbours."""

    phase: str
    action: str
    recipe: Action | None
    """None: a replay, or the wait for the health check."""
    begin: Effects = ()
    end: Effects = ()
    slowed: str | None = None
    """The instance that it slows instead of its own."""


class _Recovery:
    """The steps of one plan as they are collected."""

    def __init__(self, build: Builder, case: Case, people: Procedure, spares: int) -> None:
        self.case = case
        self.build = build
        self.people = people
        if people.hands is not None:
            build.pools[HOSTING] = people.hands
        self._spares = spares
        """How many of them are left."""
        self._ready: dict[str, Ids] = {}
        """New machine -> the steps after which it is there."""
        self._entered: set[str] = set()
        """Instances that come in with their machine."""
        self._serving: dict[str, str] = {}
        """Instance on a new machine -> the step by which it serves."""
        self._lead: dict[str, str] = {}
        """Store -> the step by which somebody takes over."""
        self._repoints: dict[str, int] = {}

    def collect(self, about: str) -> None:
        """Everything: notice, decide, machines, stores, callers, validate, and what redundancy can be rebuilt."""
        case, noticed = self.case, f"restore/{about}/{'notice' if self.case.corrupted else 'detect'}"
        self._person(noticed, self.people.detect, ())
        begin: Ids = (noticed,)
        if any(case.rebuilt(s) for s in case.env.services) or any(not one.by_itself for one in case.stores.values()):
            stopped: Effects = (("kill", case.stores[case.corrupted].primary),) if case.corrupted is not None else ()
            self._person(f"restore/{about}/decide", self.people.decide, begin, stopped)
            begin = (f"restore/{about}/decide",)
        order = self._callees_first()
        coming = [instance for service in order for instance in case.rebuilt(service)]
        for instance in coming:
            machine = case.env.instances[instance][1]
            self._machine(instance, [i for i in coming if case.env.instances[i][1] == machine], begin)
        ends: list[str] = []
        for service in order:
            if service in case.stores:
                ends += self._store(case.stores[service], begin)
            else:
                ends += [self._lane(i, self._ready[case.env.instances[i][1]]) for i in case.rebuilt(service)]
        needs = tuple(self._lead.values()) or (() if ends else begin)
        validated = f"validate/{about}/validate"
        after = tuple(end for end in ends if end not in needs)
        self._person(validated, self.people.validation, needs, (("validated",),), after)
        for service in order:
            if service in datastores(case.env) and "seed" in case.env.services[service].actions:
                self._seed(service, (validated,))
        self._elsewhere()

    def _person(self, step_id: str, duration: Duration | None, needs: Ids, end: Effects = (), after: Ids = ()) -> None:
        """A step from the operator's desk."""
        self.build.add(Step(id=step_id, target=step_id.split("/")[1], needs=needs, after=after, duration=duration or ZERO, end=end))

    def _callees_first(self) -> list[str]:
        """The services: stores, then each after those that it calls, and what carries no demand last; else by their machines."""
        services, calls = self.case.env.services, self.case.env.calls
        place = {name: sorted(self.case.env.machine_index[m] for m in service.on) for name, service in services.items()}
        depth: dict[str, int] = {}
        for name in reversed(list(nx.lexicographical_topological_sort(calls))):
            depth[name] = 1 + max((depth[c] for c in calls[name]), default=0)
        return sorted(services, key=lambda s: (services[s].role == "monitoring", services[s].role != "datastore", depth[s], place[s], s))

    def _machine(self, instance: str, beside: Sequence[str], needs: Ids) -> Ids:
        """The new machine of *instance*, with all that is to come *beside* it, unless it is there already; what comes after it."""
        build, machine = self.build, self.case.env.instances[instance][1]
        if machine in self._ready:
            return self._ready[machine]
        if self._spares > 0:
            self._spares -= 1
            end = tuple(effect for i in beside for effect in self._joins(i))
            step = Step(id=f"allocate/{machine}/{TAKE}", target=instance, needs=needs, end=end)
        else:
            step = allocated(build, machine, beside, self.case.env.actions["allocate"], needs, [e for i in beside for e in self._leaves(i)])
        build.add(step)
        self._entered.update(beside)
        self._ready[machine] = (step.id,)
        return self._ready[machine]

    def _joins(self, instance: str) -> Effects:
        """What it means that a new instance is there."""
        return (("out", instance), *self._leaves(instance))

    def _leaves(self, instance: str) -> Effects:
        """The lost instance whose place a new one takes is no longer counted as one."""
        service, machine = self.case.env.instances[instance]
        old = next(m for m, new in self.case.new.items() if new == machine)
        return (("remove", f"{service}@{old}"),) if old in self.case.lost else ()

    def _lane(self, instance: str, needs: Ids, filling: Sequence[Move] = (), end: Effects = ()) -> str:
        """An instance on a new machine, from what it needs of that to its health; *filling* comes before its start. The last step."""
        service, machine = self.case.env.instances[instance]
        spec = self.case.env.services[service]
        phase = {"monitoring": "monitoring", "datastore": "restore"}.get(spec.role, "code")
        recipes: dict[str, Action] = {"start": Action(duration=ZERO)} | {str(a): recipe for a, recipe in spec.actions.items()}
        moves = [Move("allocate", "prerequisites", recipes["prerequisites"])] if "prerequisites" in recipes else []
        moves += [Move("monitoring" if phase == "monitoring" else "code", a, recipes[a]) for a in CHANGING if a in recipes]
        moves += filling
        moves += [Move(phase, a, recipes[a]) for a in GIVING if a in recipes]
        if spec.health_check is not None and "await_healthy" not in recipes:
            moves.append(Move(phase, "await_healthy", None))
        if instance not in self._entered:
            moves[0] = moves[0]._replace(begin=(*self._joins(instance), *moves[0].begin))
        if service in self.build.versions:
            version: Effects = (("version", instance, self.build.versions[service]),)
            moves = [m._replace(end=(*m.end, *version)) if m.action == "install" else m for m in moves]
        moves[-1] = moves[-1]._replace(end=(*moves[-1].end, ("serve", instance), *end))
        for move in moves:
            needs = self._steps(instance, move, needs, self._callees(service, machine) if move.action == "start" else ())
        self._serving[instance] = needs[0]
        return needs[0]

    def _steps(self, instance: str, move: Move, needs: Ids, after: Ids = ()) -> Ids:
        """Add one action on an instance, as often as its recipe says; the last step."""
        service, machine = self.case.env.instances[instance]
        times = move.recipe.times if move.recipe is not None else 1
        for k in range(1, times + 1):
            step_id = f"{move.phase}/{instance}/{move.action}" + (f"#{k}" if times > 1 else "")
            fields: dict[str, Any] = {"needs": needs, "after": after}
            fields |= {"begin": move.begin if k == 1 else (), "end": move.end if k == times else ()}
            if move.recipe is not None:
                self.build.add(self.build.recipe_step(step_id, move.recipe, instance, machine, move.slowed, **fields))
            elif move.action == "replay":
                self.build.add(Step(id=step_id, target=instance, on=machine, replays=service, **fields))
            else:
                check = self.case.env.services[service].health_check
                self.build.add(Step(id=step_id, target=instance, duration=rise(check), **fields))
            needs, after = (step_id,), ()
        return needs

    def _callees(self, service: str, machine: str) -> Ids:
        """The steps by which, of each service that *service* cannot do without, enough serve for it to serve at all."""
        env, found = self.case.env, list[str]()
        for callee, call in env.calls[service].items():
            if call["dependency"] != "hard":
                continue
            if callee in self.case.stores:
                found += [self._lead[callee]] if callee in self._lead else []
                continue
            cell = env.cell_of.get(machine) if callee in env.pinned and service in env.pinned else None
            members = [i for i in env.members(callee) if cell is None or env.cell_of.get(env.instances[i][1]) == cell]
            there = [i for i in members if i not in self.case.absent]
            left = sum(env.instances[i][1] not in self.case.lost for i in there)
            enough = len(there) // 2 + 1 if env.services[callee].role == "quorum" else 1
            found += [self._serving[i] for i in members if i in self._serving][: max(0, enough - left)]
        return tuple(found)

    def _store(self, one: StoreCase, begin: Ids) -> list[str]:
        """One store comes back, and those who call it are pointed to it; the last steps."""
        store, recipes = one.service, self.case.env.services[one.service].actions
        if one.by_itself:
            return []
        callers = self._callers(store)
        lead: Effects = (("lead", store, one.heir), *(("out", i) for i, hard in callers if hard))
        replay = [Move("restore", "replay", None)] if one.replays else []
        if one.way == "restore":
            restore = Move("restore", "restore", self._restoring(store), end=(("restore", store, one.copy),))
            last = self._lane(one.heir, self._ready[self.case.env.instances[one.heir][1]], [restore, *replay], lead)
        else:
            restored: Effects = (("restore", store, one.copy),)
            for move in replay:
                begin, restored = self._steps(one.heir, move._replace(begin=restored), begin), ()
            [last] = self._steps(one.heir, Move("restore", "promote", recipes["promote"], end=(*restored, *lead)), begin)
        self._lead[store] = last
        return [last, *(self._repoint(caller, hard, last) for caller, hard in callers)]

    def _restoring(self, store: str) -> Action:
        """How a store is read back: at its rate, else as its recipe says."""
        service = self.case.env.services[store]
        recipe = service.actions.get("restore", Action(duration=ZERO))
        if service.store is None or service.store.restore_bytes_per_s is None:
            return recipe
        return recipe.model_copy(update={"duration": fixed(service.store.size_bytes / service.store.restore_bytes_per_s)})

    def _callers(self, store: str) -> list[tuple[str, bool]]:
        """(instance that is left and must be pointed to another place, whether it serves nothing until then)."""
        env, case = self.case.env, self.case
        return [
            (i, service.calls[store].dependency == "hard")
            for name, service in env.services.items()
            if store in service.calls and "repoint" in service.actions
            for i in env.members(name)
            if i not in case.absent and env.instances[i][1] not in case.lost
        ]

    def _repoint(self, caller: str, hard: bool, needs: str) -> str:
        """A caller that is left is pointed to where its store now is."""
        recipe = self.case.env.services[self.case.env.instances[caller][0]].actions["repoint"]
        self._repoints[caller] = k = self._repoints.get(caller, 0) + 1
        move = Move("restore", "repoint" if k == 1 else f"repoint#{k}", recipe, end=(("serve", caller),) if hard else ())
        return self._steps(caller, move, (needs,))[0]

    def _seed(self, store: str, needs: Ids) -> None:
        """The redundancy that a store has lost is rebuilt: on new machines, and in place where a member holds what is over."""
        one = self.case.stores.get(store)
        leader = one.heir if one is not None else self.build.leader(store)
        for new in self.case.reseeded(store):
            ready = self._machine(new, [new], needs)
            self._lane(new, (*dict.fromkeys((*needs, *ready)),), [self._seeding(store, leader)])
        stale = one.standbys if one is not None else ()
        if one is not None and one.way == "promote" and self.case.corrupted == store:
            stale = (one.primary, *stale)
        for old in (i for i in stale if i != leader and (self.case.corrupted == store or (one is not None and one.way == "restore"))):
            self._steps(old, self._seeding(store, leader)._replace(begin=(("out", old),), end=(("serve", old),)), needs)

    def _seeding(self, store: str, leader: str) -> Move:
        return Move("restore", "seed", self.case.env.services[store].actions["seed"], slowed=leader)

    def _elsewhere(self) -> None:
        """What a recipe would execute on a machine that is lost is executed on the one that takes its place, else from the desk."""
        for k, step in enumerate(self.build.steps):
            if step.on in self.case.lost:
                new = self.case.new.get(step.on)
                self.build.steps[k] = step.model_copy(update={"on": new if new in self._ready else ""})
