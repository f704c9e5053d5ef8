"""The upgrade: what is changed to which version, the checks, and the strategies with their partitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import networkx as nx
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from simdeploy.environment.durations import Duration
from simdeploy.environment.models import Environment
from simdeploy.environment.names import Name, Version, did_you_mean, in_short
from simdeploy.errors import InvalidDocument, Path, Problem
from simdeploy.plan.plan import Release
from simdeploy.plan.steps import Of
from simdeploy.planning.base import Choice, Scenario
from simdeploy.planning.batches import KEYS, Tolerated, cut, cutting_keys, surging
from simdeploy.planning.built_in import BUILT_IN, filled_in
from simdeploy.planning.partition import REPLACING, Partition, partition_problems, prefixed, recipes_needed
from simdeploy.planning.slices import Slices, slice_problems
from simdeploy.planning.validation import Check, Checkpoint, blind_problems, blind_warnings, checkpoint_problems, unreached_problems

Stage = Annotated[
    tuple[Name, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v, json_schema_input_type=Name | tuple[Name, ...])
]


class Strategy(Choice):
    """One named choice of partitions for all services of a scenario."""

    use: Annotated[Name | None, WithJsonSchema({"enum": list(BUILT_IN)})] = None
    """The built-in strategy that this one stands on; what is said here goes before it."""
    order: tuple[Stage, ...] | None = None
    """Stages one after the other; the services of one stage go at the same time.
    By default datastores first, then each service after those it calls; of those that may go next, monitoring first."""
    slices: Slices | None = None
    """Instead of order: vertical slices, each of all tiers at once, one after the other: lists of machines, or one slice a
    zone, an update domain or a cell. Datastores go before them."""
    max_failures: Tolerated = 0
    """How many lanes may fail; strictly more abort the plan. A count, or a percentage of what `failures_of` says."""
    failures_of: Of = "batch"
    """Whose failures are counted after each batch: its own, as a percentage of its size; carried: all so far, still as a
    percentage of this batch; plan: all so far, as a percentage of all instances; all_of_batch: only a whole batch aborts."""
    on_abort: Literal["rollback", "halt"] = "halt"
    """What is done when too many have failed, or a step that all others rest on."""
    checkpoints: tuple[Checkpoint, ...] = ()
    """Where the release is checked, and what is done when it is found bad."""
    services: dict[Name, Partition] = {}
    """How each changed service is partitioned; one that is not named goes all at once behind a drain."""


class Upgrade(Scenario):
    """An upgrade of an environment, with the strategies for it, what they must keep and what is preferred.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    scenario: Literal["upgrade"]
    """What is done."""
    to: dict[Name, Version] = {}
    """Service -> new version; of a datastore, the new schema."""
    patch: tuple[Name, ...] = ()
    """Services whose machines get a patch of their operating system and a reboot, each while its instances are out."""
    release: Release = Release()
    """The chance that the new versions are bad, and what they then do."""
    checks: dict[Name, Check] = {}
    """The checks that strategies make at their checkpoints."""
    fix: Duration | None = None
    """How long it takes to mend a bad release, for checkpoints that go forward."""
    strategies: dict[Name, Strategy] = Field(min_length=1)
    """The choices that are compared; by default every built-in one that fits (`simdeploy strategies` lists them)."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """Lay strategies over the built-in ones that they `use`; without any, take all built-in ones that fit."""
        if not isinstance(data, Mapping) or not isinstance(data.get("environment"), Environment):
            return data
        env, to, patch = data["environment"], data.get("to"), data.get("patch")
        to, patch = to if isinstance(to, Mapping) else {}, patch if isinstance(patch, list | tuple) else ()
        changed = canonical(env, {name for name in (*to, *patch) if isinstance(name, str) and name in env.services})
        if data.get("strategies") is None:
            given = {name: filled_in({"use": name}, env, to, changed) for name in BUILT_IN}
            return {**data, "strategies": {n: given[n] for n, why_not in _misfits(cls, data, given).items() if why_not is None}}
        if not isinstance(data["strategies"], Mapping):
            return data
        return {**data, "strategies": {n: filled_in(s, env, to, changed) for n, s in data["strategies"].items()}}

    def problems(self) -> Iterator[Problem]:
        """Every rule of an upgrade that is broken."""
        yield from _problems(self)

    @property
    def aim(self) -> str:
        """Which services get which version, and which are patched."""
        changes = [f"upgrades {', '.join(f'{s} to {v}' for s, v in self.to.items())}"] if self.to else []
        changes += [f"patches the machines of {', '.join(self.patch)}"] if self.patch else []
        return "; ".join(changes)

    def outline(self, strategy: str) -> str:
        """The stages of *strategy*, and its slices."""
        chosen = self.strategies[strategy]
        stages = " > ".join("+".join(stage) for stage in self.stages(chosen))
        if chosen.slices is None:
            return stages
        return f"{stages}{' > ' if stages else ''}slices of {'+'.join(self.sliced(chosen))}"

    def warnings(self) -> Sequence[str]:
        """A sentence for each batch that is larger than `forks`, which a reader may think bounds what is out, and for each blind check."""
        return [*_forks_warnings(self), *blind_warnings(self)]

    def misfits(self) -> dict[str, str | None]:
        """Built-in strategy -> why it makes no sense here, or which one it comes to; None if it fits."""
        given = {name: filled_in({"use": name}, self.environment, self.to, self.changed) for name in BUILT_IN}
        return _misfits(type(self), dict(self), given)

    def essence(self, name: str) -> str:
        """What a strategy comes to here: two with the same text make the same plan."""
        env, strategy = self.environment, self.strategies[name]
        whole = {*self.sliced(strategy), *self.writers_stopped(strategy)}
        parts: list[object] = [self.stages(strategy), strategy.slices]
        for service in self.changed:
            partition, members = self.partition(strategy, service), env.members(service)
            batches = cut(partition, members, env) if service not in whole and partition.migration is None else []
            how = partition.model_dump(exclude={*KEYS, "rounding"})
            parts.append((service, how, batches, surging(partition, len(members))))
        return repr(parts)

    def stages(self, strategy: Strategy) -> tuple[tuple[str, ...], ...]:
        """The services to change, stage by stage, up to the slices if there are any.

        Writers that an offline migration stops go with their store.
        """
        if strategy.order is not None:
            return strategy.order
        stopped = self.writers_stopped(strategy)
        wanted = [s for s in self.changed if s not in stopped and s not in self.sliced(strategy)]
        return tuple((s,) for s in bottom_up(self.environment, wanted))

    def sliced(self, strategy: Strategy) -> tuple[str, ...]:
        """The services that go in vertical slices."""
        if strategy.slices is None:
            return ()
        services, stopped = self.environment.services, self.writers_stopped(strategy)
        return tuple(s for s in self.changed if services[s].role != "datastore" and s not in stopped)

    @property
    def changed(self) -> tuple[str, ...]:
        """The services under `to` and `patch` in canonical order: by their first machine, then by name."""
        return canonical(self.environment, {*self.to, *self.patch})

    def partition(self, strategy: Strategy, service: str) -> Partition:
        """How *strategy* partitions *service*, defaults filled in."""
        given = strategy.services.get(service, Partition())
        if self.environment.services[service].role == "datastore" and service in self.to and given.migration is None:
            return given.model_copy(update={"migration": "offline"})
        return given

    def writers(self, store: str) -> tuple[str, ...]:
        """The services that call *store*, in canonical order."""
        return canonical(self.environment, (n for n, s in self.environment.services.items() if store in s.calls))

    def writers_stopped(self, strategy: Strategy) -> dict[str, str]:
        """Service -> the store whose offline migration stops it."""
        services = self.environment.services
        stores = [s for s in self.changed if services[s].role == "datastore" and s in self.to]
        return {w: s for s in stores if self.partition(strategy, s).migration == "offline" for w in self.writers(s)}


def bottom_up(env: Environment, names: Sequence[str]) -> list[str]:
    """*names* of services, datastores first, then each after those it calls, of those monitoring first; equals stay as they are."""
    depth: dict[str, int] = {}
    for name in reversed(list(nx.topological_sort(env.calls))):
        depth[name] = 1 + max((depth[c] for c in env.calls[name]), default=0)
    roles = {name: env.services[name].role for name in names}
    return sorted(names, key=lambda s: (roles[s] != "datastore", depth[s], roles[s] != "monitoring"))


def canonical(env: Environment, names: Iterable[str]) -> tuple[str, ...]:
    """*names* of services by their first machine, then by name."""
    return tuple(sorted(names, key=lambda n: (min((env.machine_index[m] for m in env.services[n].on), default=-1), n)))


def _misfits(model: type[Upgrade], data: Mapping[str, Any], strategies: Mapping[str, Any]) -> dict[str, str | None]:
    """Of each of *strategies* by itself: why it makes no sense here, or which earlier one it comes to, or None.

    Faults that any strategy would have are none of its own.
    """
    found: dict[str, str | None] = {}
    first: dict[str, str] = {}
    for name, strategy in strategies.items():
        try:
            essence = model.model_validate({**data, "strategies": {name: strategy}, "baseline": None}).essence(name)
        except InvalidDocument as error:
            found[name] = next((p.message for p in error.problems if p.path[:1] == ("strategies",)), None)
        except ValueError:
            found[name] = None
        else:
            same = first.setdefault(essence, name)
            found[name] = f"comes to the same as {same} here" if same != name else None
    return found


def _problems(scenario: Upgrade) -> list[Problem]:
    """Every rule that spans several fields and is broken, with its path in the document."""
    found: list[Problem] = []
    env, services = scenario.environment, scenario.environment.services
    unknown: list[tuple[Path, str]] = [(("to", n), n) for n in scenario.to if n not in services]
    unknown += [(("patch", i), n) for i, n in enumerate(scenario.patch) if n not in services]
    found += [Problem(path, f"{name!r} is no service; {did_you_mean(name, list(services))}") for path, name in unknown]
    for name, version in scenario.to.items():
        if name in services and services[name].version == version:
            found.append(Problem(("to", name), f"{name!r} runs {version!r} already; name the version that it shall get, or leave it out"))
    if not scenario.to and not scenario.patch:
        found.append(Problem((), "nothing is changed: name services and their new versions under 'to', or services under 'patch'"))
    if unknown:
        return found
    hosted = {m.name for m in env.machines if m.hosted}
    for i, name in enumerate(scenario.patch):
        here: Path = ("patch", i)
        if "patch" not in env.actions:
            way_out = "add it under the environment's 'actions', beside 'services'"
            found.append(Problem(here, f"no recipe says how a machine is patched: 'patch' is missing; {way_out}"))
        if name in scenario.to and services[name].role == "datastore":
            found.append(Problem(here, f"{name!r} is a datastore and cannot be migrated and patched in one plan; write two scenarios"))
        provided = [m for m in services[name].on if m in hosted]
        if provided:
            found.append(Problem(here, f"{name!r} runs on {in_short(provided)}, hosted: the provider patches that; leave {name!r} out"))
    found += prefixed(blind_problems(scenario), ("checks",))
    for name, strategy in scenario.strategies.items():
        found += _strategy_problems(scenario, strategy, ("strategies", name))
    return found


def _strategy_problems(scenario: Upgrade, strategy: Strategy, where: Path) -> list[Problem]:
    found: list[Problem] = []
    env, services = scenario.environment, scenario.environment.services
    if strategy.use is not None and strategy.use not in BUILT_IN:
        return [Problem((*where, "use"), f"{strategy.use!r} is no built-in strategy; {did_you_mean(strategy.use, list(BUILT_IN))}")]
    stopped, changed = scenario.writers_stopped(strategy), scenario.changed
    for name, partition in strategy.services.items():
        here: Path = (*where, "services", name)
        if name not in changed:
            found.append(Problem(here, f"{name!r} is not changed here; {did_you_mean(name, list(changed))}, or add it under 'to'"))
            continue
        cutting = cutting_keys(partition)
        if name in stopped and cutting:
            message = f"{name!r} writes to {stopped[name]!r}, whose offline migration stops all of it"
            found.append(Problem((*here, cutting[0]), f"{message}; drop {cutting[0]!r} or use migration: expand_contract"))
        elif name in stopped and partition.blue_green:
            message = f"{name!r} writes to {stopped[name]!r}, whose offline migration stops all of it"
            found.append(Problem((*here, "blue_green"), f"{message}; drop it or use migration: expand_contract"))
        else:
            sliced = strategy.slices is not None
            found += prefixed(partition_problems(name, partition, env, name in scenario.to, name in scenario.patch, sliced), here)
    found += _order_problems(scenario, strategy, where)
    found += _sharing_problems(scenario, strategy, where)
    found += _slices_problems(scenario, strategy, where)
    if not found:  # so it can be cut
        found += prefixed(unreached_problems(scenario, strategy), (*where, "checkpoints"))
    found += _validation_problems(scenario, strategy, where)
    for name in [*changed, *(w for w in stopped if w not in changed)]:
        partition = scenario.partition(strategy, name)
        if name in stopped and name in scenario.patch:
            message = f"{name!r} is to be patched and writes to {stopped[name]!r}, whose offline migration stops all of it at once"
            found.append(Problem((*where, "services"), f"{message}; use another migration, or patch {name!r} in a scenario of its own"))
            continue
        wrong = {p.path[-1] for p in found if p.path[:-1] == (*where, "services", name)}  # what is said of these suffices
        partition = partition.model_copy(update={k: f.default for k, f in Partition.model_fields.items() if k in wrong})
        for action in recipes_needed(services[name], partition, name in scenario.to, name in scenario.patch, name in stopped):
            if action not in services[name].actions:
                message = f"{name!r} has no recipe for {action!r}, which this strategy needs"
                found.append(Problem((*where, "services", name), f"{message}; add it to the service's actions or choose another way"))
    return found


def _order_problems(scenario: Upgrade, strategy: Strategy, where: Path) -> list[Problem]:
    if strategy.order is None:
        return []
    found: list[Problem] = []
    stopped, changed = scenario.writers_stopped(strategy), scenario.changed
    listed: list[str] = []
    for i, stage in enumerate(strategy.order):
        for name in stage:
            place: Path = (*where, "order", i)
            if name not in changed:
                found.append(Problem(place, f"{name!r} is not changed here; {did_you_mean(name, list(changed))}"))
            elif name in listed:
                found.append(Problem(place, f"{name!r} comes twice in the order; keep one"))
            elif name in stopped:
                found.append(Problem(place, f"{name!r} goes with the offline migration of {stopped[name]!r}; leave it out of the order"))
            listed.append(name)
    missing = [name for name in changed if name not in listed and name not in stopped]
    return found + [Problem((*where, "order"), f"{name!r} is to be changed and is missing in the order; add it") for name in missing]


def _sharing_problems(scenario: Upgrade, strategy: Strategy, where: Path) -> list[Problem]:
    """A patch takes all of a machine out, so nothing else on it may be upgraded at the same time."""
    services = scenario.environment.services
    together: list[tuple[Path, tuple[str, ...]]] = [((*where, "order", i), stage) for i, stage in enumerate(strategy.order or ())]
    together.append(((*where, "slices"), scenario.sliced(strategy)))
    found = []
    for place, names in together:
        for patched in (n for n in names if n in scenario.patch):
            for other in (n for n in names if n in scenario.to and n != patched):
                shared = [m for m in services[patched].on if m in services[other].on]
                if shared:
                    message = f"{patched!r} is patched and {other!r} upgraded at the same time, and both run on {shared[0]!r}"
                    found.append(Problem(place, f"{message}; put them into stages one after the other"))
    return found


def _validation_problems(scenario: Upgrade, strategy: Strategy, where: Path) -> list[Problem]:
    found = prefixed(checkpoint_problems(strategy.checkpoints, scenario.checks), (*where, "checkpoints"))
    for i, point in enumerate(strategy.checkpoints):
        here: Path = (*where, "checkpoints", i, "on_bad")
        if point.on_bad == "forward" and scenario.fix is None:
            found.append(Problem(here, "going forward takes a fix, and nothing says how long one takes; add 'fix: 30 min' to the scenario"))
        replaced = [s for s in scenario.changed if any(getattr(scenario.partition(strategy, s), key) for key in REPLACING)]
        if point.on_bad == "forward" and replaced:
            message = f"a fix goes to the machines that are there, and {replaced[0]!r} replaces its machines"
            found.append(Problem(here, f"{message}; write rollback or halt, or drop max_surge and blue_green"))
        unfinished = _unfinished(scenario, strategy) if point.after in ("canary", "batch", "tier") else None
        if point.on_bad == "forward" and unfinished is not None:
            message = f"a fix brings new code alone, and after {point.after!r} {unfinished} may still be to be done"
            found.append(Problem(here, f"{message}; write rollback or halt, or check after: code"))
    if strategy.failures_of == "all_of_batch" and "max_failures" in strategy.model_fields_set:
        message = "failures_of: all_of_batch aborts when a whole batch has failed, whatever max_failures says"
        found.append(Problem((*where, "max_failures"), f"{message}; drop one of them"))
    return found


def _unfinished(scenario: Upgrade, strategy: Strategy) -> str | None:
    """What is not new code and may come after a batch of new code, None if nothing does."""
    if scenario.patch:
        return f"the patch of {scenario.patch[0]!r}"
    checked = False
    for stage in scenario.stages(strategy):
        kinds = {s: scenario.partition(strategy, s).migration for s in stage if s in scenario.environment.services}
        migrating = [s for s, kind in kinds.items() if kind is not None]
        looked_at = [s for s, kind in kinds.items() if kind in (None, "offline")]
        if migrating and (checked or any(s != migrating[0] for s in looked_at)):
            return f"the migration of {migrating[-1]!r}"
        checked = checked or bool(looked_at)
    return None


def _slices_problems(scenario: Upgrade, strategy: Strategy, where: Path) -> list[Problem]:
    if strategy.slices is None:
        return []
    if strategy.order is not None:
        return [Problem((*where, "order"), "slices say the order of all tiers; drop 'order' or 'slices'")]
    found = prefixed(slice_problems(strategy.slices, scenario.sliced(strategy), scenario.environment), (*where, "slices"))
    for name in scenario.sliced(strategy):
        partition = scenario.partition(strategy, name)
        for key in [*cutting_keys(partition), *(k for k in REPLACING if getattr(partition, k)), *["leader"] * (partition.leader != "any")]:
            found.append(Problem((*where, "services", name, key), f"the slices say what of {name!r} goes together; drop {key!r}"))
    return found


def _forks_warnings(scenario: Upgrade) -> Iterator[str]:
    env, forks = scenario.environment, scenario.forks
    for name, strategy in scenario.strategies.items():
        kept = [s for s in scenario.changed if env.services[s].role == "datastore" or scenario.partition(strategy, s).blue_green]
        for service in (s for stage in scenario.stages(strategy) for s in stage if s not in kept):
            largest = max(map(len, cut(scenario.partition(strategy, service), env.members(service), env)), default=0)
            if forks is not None and forks < largest:
                yield (
                    f"strategy {name!r} takes out up to {largest} of {service!r} at once, more than its {forks} forks: forks bound"
                    f" the steps that run, not the machines that are out; write batches: {forks} if that is meant"
                )
