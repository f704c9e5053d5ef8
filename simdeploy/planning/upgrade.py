"""The upgrade: lanes of steps per instance, batches of lanes, stages of batches, and the data layer around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simdeploy.environment.durations import ZERO, Distribution
from simdeploy.environment.models import CHANGING, GIVING, TAKING, Action, Environment, HealthCheck, did_you_mean
from simdeploy.errors import StudyError
from simdeploy.plan.plan import Plan, Source, Start
from simdeploy.plan.steps import Judge, Step
from simdeploy.planning.batches import cut
from simdeploy.planning.scenario import Partition, Scenario, Strategy

HORIZON_FACTOR = 1.5
"""Times the longest critical path over all strategies: what a halted plan leaves out must still be seen to cost."""


def build_plan(scenario: Scenario, strategy: str) -> Plan:
    """The plan of one strategy of *scenario*, with the horizon that all its strategies share.

    Raises StudyError for a strategy that the scenario does not have.
    """
    if strategy not in scenario.strategies:
        raise StudyError(f"{strategy!r} is no strategy of {scenario.name!r}; {did_you_mean(strategy, list(scenario.strategies))}")
    return build_plans(scenario, [strategy])[strategy]


def build_plans(scenario: Scenario, strategies: Sequence[str] | None = None) -> dict[str, Plan]:
    """Strategy -> plan, for all strategies or the named ones; the horizon is that of all of them."""
    wanted = list(scenario.strategies) if strategies is None else strategies
    rough = {
        name: _Upgrade(scenario, s).plan(name, None)
        for name, s in scenario.strategies.items()
        if name in wanted or scenario.horizon_s is None
    }
    horizon_s = scenario.horizon_s
    if horizon_s is None:
        horizon_s = HORIZON_FACTOR * max(plan.critical_path_s() for plan in rough.values())
    return {name: rough[name].model_copy(update={"horizon_s": horizon_s}) for name in wanted}


class _Upgrade:
    """Collects the steps of one strategy's plan, in plan order."""

    def __init__(self, scenario: Scenario, strategy: Strategy) -> None:
        self.scenario, self.strategy = scenario, strategy
        self.env: Environment = scenario.environment
        self.steps: list[Step] = []

    def plan(self, name: str, horizon_s: float | None) -> Plan:
        scenario = self.scenario
        barrier: tuple[str, ...] = ()
        for stage in scenario.stages(self.strategy):
            ends = [end for service in stage for end in self._service(service, barrier)]
            barrier = tuple(ends) or barrier
        for store in scenario.changed:
            if self.env.services[store].role == "datastore" and scenario.partition(self.strategy, store).migration == "expand_contract":
                barrier = self._contract(store, barrier)
        return Plan(
            environment=self.env,
            steps=tuple(self.steps),
            pools={"forks": scenario.forks} if scenario.forks else {},
            start=Start(starts_at_s=scenario.starts_at_s),
            goals=scenario.goals,
            prefer=scenario.prefer,
            horizon_s=horizon_s,
            source=Source(scenario=scenario.name, strategy=name),
        )

    def _service(self, name: str, barrier: tuple[str, ...]) -> list[str]:
        """Add the steps of one service of a stage; the ids that the next stage comes after."""
        partition = self.scenario.partition(self.strategy, name)
        if self.env.services[name].role != "datastore":
            return [self._batches(name, partition, barrier)]
        begins = barrier
        if partition.back_up_first:
            begins = (self._data(name, "back_up", needs=barrier, fatal=True, end=(("point", name),)),)
        if partition.migration == "offline":
            return self._offline(name, begins)
        expanded = (("schema", name, f"{self.scenario.to[name]}/expanded"),)
        return [self._data(name, "expand", needs=begins, fatal=True, end=expanded)]

    def _batches(self, name: str, partition: Partition, barrier: tuple[str, ...]) -> str:
        """Lanes batch by batch, a judge after each; the last judge's id."""
        members = self._ordered(name, partition)
        leader: str | None = self._leader(name)
        done: list[str] = []
        for k, batch in enumerate(cut(partition, members, self.env), start=1):
            lanes: list[list[Step]] = []
            for instance in batch:
                heir = self._heir(members, batch, done) if partition.hand_over and instance == leader else None
                lane = self._lane(instance, partition, barrier, hand_over_to=heir)
                leader = heir or leader
                lanes.append(lane)
            self.steps += [step for lane in lanes for step in lane]
            watch = tuple(step.id for lane in lanes for step in lane)
            judge = Step(
                id=f"code/{name}/judge#{k}",
                kind="judge",
                target=name,
                after=tuple(lane[-1].id for lane in lanes),
                judge=Judge(watch=watch, size=len(batch)),
            )
            self.steps.append(judge)
            barrier = (judge.id,)
            done += batch
        return barrier[0]

    def _leader(self, name: str) -> str:
        """Who leads a service at the start, as the state will see it."""
        stated = self.env.services[name].leader
        return f"{name}@{stated}" if stated else self.env.members(name)[0]

    def _ordered(self, name: str, partition: Partition) -> list[str]:
        members, leader = list(self.env.members(name)), self._leader(name)
        if partition.leader == "any":
            return members
        followers = [m for m in members if m != leader]
        return [*followers, leader] if partition.leader == "last" else [leader, *followers]

    def _heir(self, members: list[str], batch: tuple[str, ...], done: list[str]) -> str | None:
        """Who takes the lead over: an upgraded member if there is one, else one that is not in this batch."""
        others = done + [m for m in members if m not in batch and m not in done]
        return others[0] if others else None

    def _lane(
        self,
        instance: str,
        partition: Partition,
        after: tuple[str, ...],
        hand_over_to: str | None = None,
        start_needs: tuple[str, ...] = (),
    ) -> list[Step]:
        """One instance's way out and back; `needs` binds the lane, *after* comes before its first step."""
        name, machine = self.env.instances[instance]
        service = self.env.services[name]
        upgraded = name in self.scenario.to
        drained = partition.take_out == "drain"
        taking = [a for a in TAKING if a in service.actions and (drained or a == "stop")]
        changing = [a for a in CHANGING if a in service.actions and upgraded]
        giving = [a for a in GIVING if a in service.actions and (drained or a != "undrain")]
        begin: dict[str, list[Any]] = {taking[0]: [("drain" if drained else "kill", instance)]}
        end: dict[str, list[Any]] = {}
        if drained:
            end["await_idle" if "await_idle" in taking else "drain"] = [("out", instance)]
            begin.setdefault("stop", []).append(("out", instance))
        if upgraded:
            end.setdefault("install", []).append(("version", instance, self.scenario.to[name]))
        lane: list[Step] = []

        def add(step: Step) -> None:
            lane.append(step.model_copy(update={"needs": (*step.needs, lane[-1].id)} if lane else {"after": after}))

        if hand_over_to is not None:
            lead: dict[str, Any] = {"begin": (("lead", name, None),), "end": (("lead", name, hand_over_to),)}
            add(self._step(f"code/{instance}/hand_over", service.actions["hand_over"], instance, machine, **lead))
        for action in (*taking, *changing, *giving):
            recipe = service.actions[action]
            for k in range(1, recipe.times + 1):
                fields: dict[str, Any] = {"needs": start_needs} if action == "start" else {}
                fields["begin"] = tuple(begin.get(action, ())) if k == 1 else ()
                fields["end"] = tuple(end.get(action, ())) if k == recipe.times else ()
                step_id = f"code/{instance}/{action}" + (f"#{k}" if recipe.times > 1 else "")
                add(self._step(step_id, recipe, instance, machine, **fields))
        if service.health_check is not None and "await_healthy" not in giving:
            add(Step(id=f"code/{instance}/await_healthy", target=instance, duration=_rise(service.health_check)))
        lane[-1] = lane[-1].model_copy(update={"end": (*lane[-1].end, ("serve", instance))})
        return lane

    def _offline(self, store: str, begins: tuple[str, ...]) -> list[str]:
        """Stop the writers, migrate, install meanwhile, start them; the judge's id."""
        migrate = f"data/{store}/migrate"
        lanes = [
            self._lane(i, self.scenario.partition(self.strategy, writer), begins, start_needs=(migrate,))
            for writer in self.scenario.writers(store)
            for i in self.env.members(writer)
        ]
        stopped = tuple([s for s in lane if s.action.partition("#")[0] in TAKING][-1].id for lane in lanes)
        self.steps += [step for lane in lanes for step in lane]
        self._data(store, "migrate", needs=(*begins, *stopped), fatal=True, end=(("schema", store, self.scenario.to[store]),))
        watch = (*(step.id for lane in lanes for step in lane), migrate)
        ends = tuple(lane[-1].id for lane in lanes) or (migrate,)
        judge = Step(id=f"data/{store}/judge", kind="judge", target=store, after=ends, judge=Judge(watch=watch, size=max(1, len(lanes))))
        self.steps.append(judge)
        return [judge.id]

    def _contract(self, store: str, barrier: tuple[str, ...]) -> tuple[str, ...]:
        """The rest of an expanding migration, when all code is new: backfill, index, contract."""
        actions = self.env.services[store].actions
        needs = barrier
        for action in ("backfill", "index"):
            if action in actions:
                needs = (self._data(store, action, needs=needs),)
        return (self._data(store, "contract", needs=needs, end=(("schema", store, self.scenario.to[store]),)),)

    def _data(self, store: str, action: str, needs: tuple[str, ...], fatal: bool = False, end: tuple[Any, ...] = ()) -> str:
        """Add an action on a store, as often as its recipe says; the id of the last."""
        recipe = self.env.services[store].actions[action]  # type: ignore[index]  # an ActionName by construction
        primary = self._leader(store)
        last = ""
        for k in range(1, recipe.times + 1):
            last = f"data/{store}/{action}" + (f"#{k}" if recipe.times > 1 else "")
            effects = end if k == recipe.times else ()
            no_return = action in ("migrate", "contract") and not recipe.undo
            machine = self.env.instances[primary][1]
            self.steps.append(
                self._step(last, recipe, store, machine, slowed=primary, needs=needs, fatal=fatal, end=effects, no_return=no_return)
            )
            needs = (last,)
        return last

    def _step(self, step_id: str, recipe: Action, target: str, machine: str, slowed: str | None = None, **fields: Any) -> Step:
        """A step after its recipe; a hosted machine's own actions run from the operator's desk."""
        hosted = {m.name: m.hosted for m in self.env.machines}
        service = target.split("@")[0]
        words = {"machine": machine, "service": service, "version": self.scenario.to.get(service, self.env.services[service].version)}
        slow = ((slowed or target, recipe.capacity_left),) if recipe.capacity_left < 1 else ()
        return Step(
            id=step_id,
            target=target,
            on=recipe.on or ("" if hosted[machine] else machine),
            duration=recipe.duration or ZERO,
            until_idle=recipe.until_idle,
            pools=(("forks", 1),) if self.scenario.forks else (),
            p_fail=recipe.p_fail,
            retries=recipe.retries,
            retry_delay=recipe.retry_delay,
            timeout_s=recipe.timeout_s,
            slow=slow,
            run=_filled(recipe.command, words),
            check=_filled(recipe.check, words),
            **fields,
        )


def _rise(check: HealthCheck) -> Distribution:
    """How long a started instance waits for its health check: U((rise - 1) x interval, rise x interval)."""
    return Distribution(kind="uniform", parameters=((check.rise - 1) * check.interval_s, check.rise * check.interval_s))


def _filled(argv: tuple[str, ...], words: dict[str, str]) -> tuple[str, ...]:
    """*argv* with {machine}, {service} and {version} filled in, each inside its own argument."""
    filled = []
    for argument in argv:
        for word, value in words.items():
            argument = argument.replace(f"{{{word}}}", value)
        filled.append(argument)
    return tuple(filled)
