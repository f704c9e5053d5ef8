"""The plan: the one thing that is simulated, vetted, exported and executed.

A Plan is a value: frozen, complete, and a wrong one cannot be built. It carries its environment, so that a
JSON plan can be forecast a month later without the YAML it came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import networkx as nx
from pydantic import ValidationError, model_validator

from simdeploy.environment.base import Frozen
from simdeploy.environment.durations import ZERO, fixed
from simdeploy.environment.models import Environment
from simdeploy.environment.names import did_you_mean
from simdeploy.environment.wording import wording
from simdeploy.errors import DiffersError, InvalidDocument, Path, PlanError, Problem
from simdeploy.plan.effects import VERBS
from simdeploy.plan.goals import DEFAULT_PREFER, Goal
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.steps import MAIN, ROLLBACK, Seconds, Step
from simdeploy.tables import mime_bundle
from simdeploy.units import Fraction

ON_SERVICES = ("lead", "schema", "point", "restore", "split", "join", "rewind")
"""Verbs that change a service as a whole: a datastore, of `lead` also another one with a leader."""


FORMAT = 1
"""Version of the form of a plan's JSON: one whose defaults or meanings have moved has another."""


class Start(Frozen):
    """The state in which a plan begins; what is not named serves the version of its service."""

    absent: tuple[str, ...] = ()
    out: tuple[str, ...] = ()
    leaders: dict[str, str] = {}
    """Service -> leading instance; by default the first member that serves."""
    spares: tuple[str, ...] = ()
    """Machines that stand by: paid for from the start to the horizon, whatever is on them."""
    starts_at_s: Seconds = 0.0
    """Seconds after midnight, for a daily demand curve."""
    live: bool = True
    """False: no users before the effect `open` (a fresh deployment)."""


class Release(Frozen):
    """How likely the new versions are bad, and what they then do."""

    p_bad: Fraction = 0.0
    """Of the versions that the main section brings."""
    p_bad_fix: Fraction = 0.0
    """Of those that a forward round brings, for each round anew."""
    error_share: Fraction = 0.0
    """Of the requests that an instance of a bad version serves."""


class Crash(Frozen):
    """A machine that dies at a known moment."""

    machine: str
    at_s: Seconds
    for_s: Seconds | None = None
    """None = it never returns."""


class Corruption(Frozen):
    """Something wrong is written to a store at a known moment; a restore then wants nothing that was written later."""

    store: str
    at_s: Seconds


class Source(Frozen):
    """Where a plan came from."""

    scenario: str = ""
    strategy: str = ""


GUARDS = ("began", "unbegun", "done", "undone")


class Wiring(NamedTuple):
    """The DAG as lists of positions in `plan.steps`, for everyone who walks it."""

    position: dict[str, int]
    successors: list[list[tuple[int, bool]]]
    """Of each step: (later step, whether that one needs this one's success)."""
    waits: list[int]
    """How many predecessors each step has."""


class Plan(Frozen):
    """Steps in order, the environment they act on, and everything that decides what they cost.

    Building one raises PlanError, a line for each fault, for steps that form no DAG, or that name what is not there.
    """

    format: Literal[1] = 1
    environment: Environment
    steps: tuple[Step, ...]
    pools: dict[str, int] = {}
    start: Start = Start()
    goals: tuple[Goal, ...] = ()
    prefer: tuple[str, ...] = DEFAULT_PREFER
    on_abort: Literal["rollback", "halt"] = "halt"
    release: Release = Release()
    crashes: tuple[Crash, ...] = ()
    corruptions: tuple[Corruption, ...] = ()
    after_crash: Literal["retry", "abort"] = "retry"
    """What becomes of a step whose machine dies: attempted again when it is back, or the plan aborts."""
    disaster_at_s: Seconds | None = None
    """The moment from which the recovery time counts; None = this plan recovers from nothing."""
    steady_capacity_per_s: float | None = None
    """What capacity is compared with; None = that of the start state."""
    horizon_s: Seconds | None = None
    """Integrals run over [0, horizon]; None = to the end of the last step."""
    source: Source = Source()

    @model_validator(mode="after")
    def _is_sound(self) -> Plan:
        wrong = [*_check_steps(self), *_check_names(self)]
        if wrong:
            raise PlanError("\n".join(problem.message for problem in wrong), wrong)
        graph = self.graph()
        if nx.is_directed_acyclic_graph(graph):  # to find a loop takes far longer than to see that there is none
            return self
        loop = [u for u, _ in nx.find_cycle(graph)]
        message = f"steps wait for each other: {' -> '.join([*loop, loop[0]])}; drop one of these needs or after"
        raise PlanError(message, [Problem(("steps", min(self.wiring.position[s] for s in loop)), message)])

    @cached_property
    def wiring(self) -> Wiring:
        """The steps' order by position."""
        index = {s.id: i for i, s in enumerate(self.steps)}
        successors: list[list[tuple[int, bool]]] = [[] for _ in self.steps]
        waits = [0] * len(self.steps)
        for i, step in enumerate(self.steps):
            needs = {index[n] for n in step.needs}
            before = needs | {index[a] for a in step.after}
            waits[i] = len(before)
            for j in before:
                successors[j].append((i, j in needs))
        return Wiring(index, successors, waits)

    def graph(self) -> nx.DiGraph[str]:
        """The steps as a DAG of ids: u -> v means that v begins after u has ended; each edge is weighted by u's mean [s]."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(s.id for s in self.steps)
        mean = self.means_s()
        graph.add_edges_from((u, s.id, {"weight": mean[u]}) for s in self.steps for u in (*s.needs, *s.after))
        return graph

    def means_s(self) -> dict[str, float]:
        """The mean of each step [s]; a replay takes what it does in the mean over the schedules of the store's copies."""
        replays = {n: {"duration": fixed(s.store.mean_replay_s)} for n, s in self.environment.services.items() if s.store is not None}
        return {s.id: s.model_copy(update=replays[s.replays]).mean_s if s.replays else s.mean_s for s in self.steps}

    def critical_path_s(self) -> float:
        """The longest path at mean durations [s]: the main section, every forward round and the rollback, one after the other."""
        total, whole = 0.0, self.graph()
        mean = self.means_s()
        for part in sorted({s.part for s in self.steps}):
            ended: dict[str, float] = {}
            graph = whole.subgraph(s.id for s in self.steps if s.part == part)
            for step_id in nx.topological_sort(graph):
                ended[step_id] = mean[step_id] + max((ended[u] for u in graph.predecessors(step_id)), default=0.0)
            total += max(ended.values(), default=0.0)
        return total

    def to_json(self) -> str:
        """The plan as JSON with sorted keys, defaults left out; with its digest, and the version of simdeploy that wrote it."""
        stamp = {"format": FORMAT, "sha256": self.digest, "tool": version("simdeploy")}
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True) | stamp, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote, or one written by hand, without a digest.

        Raises PlanError for anything else, and DiffersError where the content is not what its digest was made of.
        """
        try:
            content = json.loads(text)
            stamped = _stamp(content)
            plan = cls.model_validate(content)
        except RecursionError:
            raise PlanError("is nested too deeply for a plan; name a file written by 'simdeploy plan'") from None
        except json.JSONDecodeError as error:
            raise PlanError(
                f"is no JSON at line {error.lineno}, column {error.colno}: {error.msg}; name a file written by 'simdeploy plan'"
            ) from None
        except InvalidDocument as error:
            raise PlanError(f"the plan's environment is unsound: {error}") from None
        except ValidationError as error:
            raise PlanError("\n".join(_said(e, content, cls) for e in error.errors(include_url=False))) from None
        except ValueError as error:  # a number of thousands of digits
            raise PlanError(f"is no JSON that can be read: {error}; name a file written by 'simdeploy plan'") from None
        if stamped is not None and stamped != plan.digest:
            now = f"its sha256 is {str(stamped)[:12]!r} and its content has {plan.digest[:12]!r}"
            raise DiffersError(
                f"was changed after it was written: {now}; write it anew with 'simdeploy plan', or drop sha256 and vet it again"
            )
        return plan

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of what the plan says, as JSON in canonical order without blanks."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.plan.overview import steps

        return mime_bundle(steps(self))


def _stamp(content: Any) -> Any:
    """Takes what is of the file and not of the plan, `sha256` and `tool`, out of *content*; its `sha256`, None where it has none."""
    if not isinstance(content, dict):
        raise PlanError(f"is {content!r:.60} and no plan; name a file written by 'simdeploy plan'")
    stamped, tool, form = content.pop("sha256", None), content.pop("tool", None), content.get("format")
    if isinstance(form, int) and form > FORMAT:
        wrote = f" ({tool})" if isinstance(tool, str) else ""
        which = f"has format {form}, and simdeploy {version('simdeploy')} knows formats up to {FORMAT}"
        raise PlanError(f"{which}; read it with the newer simdeploy that wrote it{wrote}, or write it anew with 'simdeploy plan'")
    return stamped


def _said(error: Mapping[str, Any], content: Any, model: type[Plan]) -> str:
    """One error of pydantic's as a line: where in the *content*, and what is wrong there."""
    path: Path = ()
    for part in error["loc"]:  # without what pydantic adds for the branch of a union
        try:
            content, path = content[part], (*path, part)
        except (KeyError, IndexError, TypeError):
            path = (*path, part) if error["type"] == "missing" else path
    text = wording(error, path, model)
    named = error["type"] not in ("missing", "extra_forbidden")  # these name a key of what is above; the others begin with theirs
    above = path[:-2] if named and path and isinstance(path[-1], int) else path[:-1]
    place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in above).removeprefix(".")
    return f"{place}{'.' if named else ': '}{text}" if place else text


def _check_steps(plan: Plan) -> Iterator[Problem]:
    """Every fault of what the steps say of each other."""
    seen: dict[str, Step] = {}
    for k, step in enumerate(plan.steps):
        if step.id in seen:
            yield Problem(("steps", k), f"two steps are called {step.id!r}; give the second another action or an ordinal such as '#2'")
        seen[step.id] = step
    rounds = {s.part for s in plan.steps if s.section == "forward"}
    for k, step in enumerate(plan.steps):
        yield from (Problem(("steps", k), message) for message in _check_step(plan, step, seen, rounds))
    for gap in sorted({r - 1 for r in rounds} - rounds - {MAIN}):
        yield Problem(("steps",), f"forward round {gap + 1} has steps and round {gap} has none; number the rounds 1, 2, ...")


def _check_step(plan: Plan, step: Step, steps: dict[str, Step], rounds: set[int]) -> Iterator[str]:
    if (step.kind == "judge") != (step.judge is not None) or (step.kind == "gate") != (step.gate is not None):
        yield f"step {step.id!r} has kind {step.kind!r}; a judge carries `judge`, a gate carries `gate`, a step neither"
    if not step.awaited and (step.begin or step.until_idle or step.no_return):
        yield f"step {step.id!r} changes something as soon as it begins, so an abort waits for it; drop its `awaited`"
    if step.until_idle:
        yield from _check_drain(plan, step)
    if step.replays:
        yield from _check_replay(plan, step)
    if step.part == MAIN and any(getattr(step, guard) for guard in GUARDS):
        yield f"step {step.id!r} is a main step with a guard ({', '.join(GUARDS)}); only a rollback or forward step has one"
    if step.section != "forward" and step.round != 1:
        yield f"{step.section} step {step.id!r} has round {step.round}; only a forward step has one: set section or drop it"
    for watched in step.judge.watch if step.judge else ():
        if watched not in steps:
            yield f"judge {step.id!r} watches {watched!r}, which is no step; {did_you_mean(watched, list(steps))}"
    yield from _check_references(step, steps)
    if step.gate is not None and step.gate.reaction == "forward" and (step.part == ROLLBACK or step.part + 1 not in rounds):
        where = "a rollback has none" if step.part == ROLLBACK else f"no step has section 'forward' and round {step.part + 1}"
        yield f"gate {step.id!r} goes forward and names a round that is not there: {where}; add the round or let it roll back or halt"


def _check_references(step: Step, steps: dict[str, Step]) -> Iterator[str]:
    for field in ("needs", "after", *GUARDS):
        for name in getattr(step, field):
            if name not in steps:
                yield f"step {step.id!r} names {name!r} under {field}, which is no step; {did_you_mean(name, list(steps))}"
                continue
            other = steps[name]
            if field in GUARDS:
                fits, wanted = other.part != ROLLBACK and (step.part == ROLLBACK or other.part < step.part), "earlier"
            else:
                fits, wanted = other.part == step.part, _section(step)
            if not fits:
                which = f"{_section(step)} step {step.id!r} names the {_section(other)} step {name!r} under {field}"
                yield f"{which}, which takes {wanted} steps; name one of those"


def _section(step: Step) -> str:
    return f"forward (round {step.round})" if step.section == "forward" else step.section


def _check_drain(plan: Plan, step: Step) -> Iterator[str]:
    """A step that lasts until idle drains its target, whose service says how long it holds a request, up to a time-out."""
    service, _ = plan.environment.instances.get(step.target, ("", ""))
    wrong = None
    if step.kind != "step" or not service:
        wrong = f"is a {step.kind} on {step.target!r}; only a step on an instance drains: name that instance as its target"
    elif plan.environment.services[service].hold is None:
        wrong = f"drains {step.target!r}, and {service!r} does not state how long it holds a request; state its `hold`"
    elif step.timeout_s is None:
        wrong = "has no `timeout_s`, so that it might never end; state after how long it cuts what is left"
    elif ("drain", step.target) not in step.begin:
        wrong = f'does not drain its target when it begins; add ["drain", "{step.target}"] under begin'
    elif step.duration != ZERO:
        wrong = f"also has the duration {step.duration}; drop that, its length follows from the hold"
    if wrong:
        yield f"step {step.id!r} lasts until idle and {wrong}, or drop `until_idle`"


def _check_replay(plan: Plan, step: Step) -> Iterator[str]:
    """A step that replays the log of a store follows from how much log that writes, and from what it is replayed."""
    services = plan.environment.services
    store = services[step.replays].store if step.replays in services else None
    kinds = {copy.kind for copy in store.copies} if store is not None else set()
    follows = step.target in plan.environment.instances and step.target not in (*plan.start.absent, *plan.start.out)
    wrong = None
    if step.kind != "step":
        wrong = f"is a {step.kind}; only a step replays: drop `replays`"
    elif store is None:
        stores = [name for name, service in services.items() if service.store is not None]
        what = "no service" if step.replays not in services else "a service without a `store`"
        wrong = f"that is {what}; {did_you_mean(step.replays, stores)}"
    elif (store.log_bytes_per_s is None or store.replay_bytes_per_s is None) and (
        services[step.replays].read_back_s is None or not follows
    ):
        rates = {"log_rate": store.log_bytes_per_s, "replay_rate": store.replay_bytes_per_s}
        missing = " and ".join(f"`{key}`" for key, rate in rates.items() if rate is None)
        wrong = f"whose store does not state {missing}; state how much log it writes and how fast that is replayed"
    elif "log_archive" in kinds and "backup" not in kinds and not follows:
        wrong = "which has a log archive and no backup from which the log could be replayed; add a backup"
    elif step.duration != ZERO or step.until_idle:
        wrong = "and also has a duration or lasts until idle; drop that, its length follows from the log"
    if wrong:
        yield f"step {step.id!r} replays the log of {step.replays!r}, {wrong}"


def _check_names(plan: Plan) -> Iterator[Problem]:
    """Every name of what is not there, and every effect on what does not take it."""
    env, start = plan.environment, plan.start
    known: dict[str, Any] = {"instance": env.instances, "service": env.services, "step": {s.id for s in plan.steps}}
    for k, step in enumerate(plan.steps):
        yield from (Problem(("steps", k), message) for message in _check_step_names(plan, step, known))
    for name in sorted(set(start.leaders) - set(env.services)):
        message = f"the start state names a leader of {name!r}, which is no service; {did_you_mean(name, list(env.services))}"
        yield Problem(("start", "leaders", name), message)
    for i, metric in enumerate(plan.prefer):
        if metric not in METRICS:
            yield Problem(("prefer", i), f"the plan prefers {metric!r}, which is no metric; {did_you_mean(metric, list(METRICS))}")
    for field, named in (("absent", enumerate(start.absent)), ("out", enumerate(start.out)), ("leaders", start.leaders.items())):
        for place, name in named:
            if name not in env.instances:
                message = f"the start state names {name!r}, which is no instance; {did_you_mean(name, list(env.instances))}"
                yield Problem(("start", field, place), message)
    for i, machine in enumerate(start.spares):
        if machine not in env.machine_index:
            message = f"the start state has the spare {machine!r}, which is no machine; {did_you_mean(machine, list(env.machine_index))}"
            yield Problem(("start", "spares", i), message)
    for i, crash in enumerate(plan.crashes):
        if crash.machine not in env.machine_index:
            message = f"{crash.machine!r} is to crash and is no machine; {did_you_mean(crash.machine, list(env.machine_index))}"
            yield Problem(("crashes", i, "machine"), message)
    stores = [name for name, service in env.services.items() if service.store is not None]
    for i, corruption in enumerate(plan.corruptions):
        if corruption.store not in stores:
            what = "has no `store`" if corruption.store in env.services else "is no service"
            message = f"{corruption.store!r} is to be corrupted and {what}; {did_you_mean(corruption.store, stores)}"
            yield Problem(("corruptions", i, "store"), message)


def _check_step_names(plan: Plan, step: Step, known: dict[str, Any]) -> Iterator[str]:
    env = plan.environment
    for pool, units in step.pools:
        if units > plan.pools.get(pool, 0):
            yield f"step {step.id!r} holds {units} of pool {pool!r}, which has {plan.pools.get(pool, 0)}; enlarge the pool"
    if step.on and step.on not in env.machine_index:
        yield f"step {step.id!r} runs on {step.on!r}, which is no machine; {did_you_mean(step.on, list(env.machine_index))}"
    for instance, _ in step.slow:
        if instance not in env.instances:
            yield f"step {step.id!r} slows {instance!r}, which is no instance; {did_you_mean(instance, list(env.instances))}"
    for effect in (*step.begin, *step.end):
        for kind, value in zip(VERBS[str(effect[0])].arguments, effect[1:], strict=False):
            names = known.get(kind.rstrip("?"))
            if names is not None and value not in names and not (value is None and kind.endswith("?")):
                which = f"step {step.id!r}: effect {list(effect)} names {value!r}, which is no {kind.rstrip('?')}"
                yield f"{which}; {did_you_mean(str(value), list(names))}"
    for verb, service in [(str(e[0]), str(e[1])) for e in (*step.begin, *step.end) if e[0] in ON_SERVICES]:
        role = env.services[service].role if service in env.services else "datastore"  # that it is missing is said above
        if role != "datastore" and (verb != "lead" or role not in ("leader_elected", "quorum")):
            wanted = "a leader-elected, quorum or datastore service" if verb == "lead" else "a datastore"
            yield f"step {step.id!r}: effect {verb!r} is on {service!r}, which is {role}; it takes {wanted}"
    for service, leader in [(str(e[1]), e[2]) for e in (*step.begin, *step.end) if e[0] == "lead" and len(e) > 2]:
        if leader in env.instances and service in env.services and leader not in env.members(service):
            members = did_you_mean(str(leader), list(env.members(service)))
            yield f"step {step.id!r} lets {leader!r} lead {service!r}, of which it is no instance; {members}"
    for instance in (str(e[1]) for e in (*step.begin, *step.end) if e[0] == "weight"):
        weighed = env.services[env.instances[instance][0]] if instance in env.instances else None
        if weighed is not None and not weighed.is_balanced:
            how = "a quorum that serves through its leader" if weighed.role == "quorum" else weighed.role
            which = f"step {step.id!r}: effect 'weight' is on {instance!r}, which is {how}"
            yield f"{which}; it takes a stateless service, or a quorum whose members all serve"
