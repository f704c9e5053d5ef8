"""A plan as instructions for people: one value from which the Markdown and the HTML page are written.

All texts in it are plain and on one line with nothing hidden; whoever writes them escapes them for the medium.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from simdeploy.export.batches import Batch, Entry, Part, parts
from simdeploy.export.drawings import Timeline, Topology, timeline, topology
from simdeploy.export.instructions import Instruction, Undoing, clock, instruction, undoing
from simdeploy.export.secrets import secret_variables
from simdeploy.export.words import judge_words, most_failures, visible
from simdeploy.plan.findings import Vetting
from simdeploy.plan.forecast import Expected, Forecast
from simdeploy.plan.metrics import METRICS, OUTCOMES
from simdeploy.plan.overview import number
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import MAIN, ROLLBACK, Step
from simdeploy.tables import listed

SHOWN = ("makespan_s", "downtime_s", "failed_requests", "capacity_min", "data_loss_s", *OUTCOMES)

LEAST_ALIKE = 3
"""So many like batches in a row have their instructions once."""


class Host(NamedTuple):
    """Machines that run the same services in the same zone."""

    machines: str
    services: str
    zone: str


class Verdict(NamedTuple):
    """What vetting said."""

    said: str
    findings: tuple[tuple[str, str, str], ...] = ()
    """(severity, id, message with its cure)."""
    accepted: tuple[str, ...] = ()


class Expectation(NamedTuple):
    """What the forecast said of the whole plan."""

    said: str
    metrics: tuple[tuple[str, str, str], ...] = ()
    """(metric, P50, P95); of an outcome its probability and nothing."""
    goals: tuple[tuple[str, str], ...] = ()


class Round(NamedTuple):
    """One batch of a stage: its number, its machines and when the forecast expects it to begin."""

    number: str
    machines: str
    begins: str


class Stage(NamedTuple):
    """Batches one after the other with the same instructions; most stages are one batch."""

    title: str
    rounds: tuple[Round, ...]
    go: tuple[str, ...]
    """What must be true for go; else no-go."""
    instructions: tuple[Instruction, ...]


class Chapter(NamedTuple):
    """A section of the plan."""

    title: str
    intro: tuple[str, ...]
    stages: tuple[Stage, ...]


class Runbook(NamedTuple):
    """Everything that a page says."""

    title: str
    digest: str
    purpose: tuple[tuple[str, str], ...]
    hosts: tuple[Host, ...]
    artefacts: tuple[tuple[str, str], ...]
    """(path, sha256)."""
    secrets: tuple[tuple[str, str], ...]
    """(variable, where the secret is)."""
    people: tuple[str, ...]
    preflight: tuple[str, ...]
    verdict: Verdict
    expectation: Expectation
    chapters: tuple[Chapter, ...]
    timeline: Timeline
    topology: Topology
    lost: tuple[str, ...]
    """What simdeploy's runner promises and a page in the hands of people does not keep."""
    kept: str


def runbook(plan: Plan, vetting: Vetting | None, forecast: Forecast | None) -> Runbook:
    """The runbook of *plan*; what vetting and forecast would say is said to be missing where they are."""
    sections = parts(plan)
    main = sections[0] if sections else Part(MAIN, ())
    undo = undoing(sections)
    name = plan.source.scenario or plan.environment.name
    return Runbook(
        title=visible(f"{name}: {plan.source.strategy}" if plan.source.strategy else name),
        digest=plan.digest,
        purpose=_purpose(plan, vetting, forecast),
        hosts=_hosts(plan),
        artefacts=tuple(dict.fromkeys((visible(s.artefact.path), s.artefact.sha256) for s in plan.steps if s.artefact)),
        secrets=tuple((variable, ref) for (_, ref), variable in secret_variables(plan).items()),
        people=_people(plan),
        preflight=_preflight(plan),
        verdict=_verdict(vetting),
        expectation=_expectation(forecast),
        chapters=tuple(_chapter(plan, p, undo, forecast, vetting) for p in sections),
        timeline=timeline(plan, main, forecast),
        topology=topology(plan.environment, main),
        lost=_lost(plan, forecast),
        kept=_kept(plan, vetting, forecast),
    )


def _purpose(plan: Plan, vetting: Vetting | None, forecast: Forecast | None) -> tuple[tuple[str, str], ...]:
    changes: dict[str, dict[str, None]] = {}
    for step in plan.steps:
        for effect in (*step.begin, *step.end) if step.part == MAIN else ():
            if effect[0] in ("version", "schema"):
                service = str(effect[1]).split("@")[0]
                changes.setdefault(service, {})[str(effect[2])] = None
    services = plan.environment.services
    told = [f"{s} from {services[s].version if s in services else '?'} to {', then '.join(new)}" for s, new in changes.items()]
    tools = [f"vetted by simdeploy {vetting.tool}"] if vetting else []
    tools += [f"forecast by simdeploy {forecast.tool}"] if forecast else []
    rows = [
        ("Scenario", plan.source.scenario or "not named"),
        ("Strategy", plan.source.strategy or "not named"),
        ("Environment", f"{plan.environment.name} ({plan.environment.kind})"),
        ("Versions", "; ".join(told) or "none changes"),
        ("Plan, SHA-256", plan.digest),
        ("Steps", f"{len(plan.steps)}, judges and gates included"),
        ("Goals", "; ".join(str(g) for g in plan.goals) or "none stated"),
        ("If it is aborted", "roll back" if plan.on_abort == "rollback" else "halt: lanes that have begun end, nothing else begins"),
        ("Made with", ", ".join(tools) or "neither a vetting nor a forecast"),
    ]
    return tuple((label, visible(value)) for label, value in rows)


def _hosts(plan: Plan) -> tuple[Host, ...]:
    on: dict[str, list[str]] = {m.name: [] for m in plan.environment.machines}
    for service, machine in plan.environment.instances.values():
        on[machine].append(service)
    alike: dict[tuple[str, str], list[str]] = {}
    for box in plan.environment.machines:
        alike.setdefault((", ".join(on[box.name]) or "nothing yet", box.zone or "-"), []).append(box.name)
    return tuple(Host(many(names), services, zone) for (services, zone), names in alike.items())


def many(names: Sequence[str]) -> str:
    """All *names* in a row, with their number where they are many."""
    return ", ".join(names) if len(names) <= 8 else f"{len(names)} machines: {', '.join(names)}"


def _people(plan: Plan) -> tuple[str, ...]:
    by_hand = [s.part == MAIN for s in plan.steps if s.kind != "judge" and not s.run]
    others = f", and for {len(by_hand) - sum(by_hand)} of the rollback and of forward rounds" if not all(by_hand) else ""
    said = [f"pool {name}: at most {units} at once" for name, units in plan.pools.items()]
    said += [f"a person for {sum(by_hand)} steps by hand (no command){others}"] if by_hand else []
    return (*(visible(s) for s in said), "one who decides on go and no-go, one who types, and how to reach both")


def _preflight(plan: Plan) -> tuple[str, ...]:
    env, start = plan.environment, plan.start
    away = {*start.absent, *start.out}
    said = [f"this page is of the plan {plan.digest[:12]}, and nobody else deploys to {env.name}"]
    for name, service in env.services.items():
        serving = [m.split("@", 1)[1] for m in env.members(name) if m not in away]
        if serving:
            word = "has the schema" if service.role == "datastore" else "runs version"
            said.append(f"{name} {word} {service.version} and serves on {listed(serving, most=8)}")
        if service.role in ("leader_elected", "datastore") or service.serves == "leader":
            said.append(f"{name} is led by {start.leaders.get(name, env.leader_of(name))}")
    said += [f"{listed(start.out, most=8)} {_be(start.out)} off the balancer"] if start.out else []
    said += [f"{listed(start.absent, most=8)} {_be(start.absent)} not there yet"] if start.absent else []
    said += ["users are not there yet"] if not start.live else []
    said += ["every artefact above is in its place and has its SHA-256"] if any(s.artefact for s in plan.steps) else []
    said += ["every secret above can be read by whoever types"] if any(s.secrets for s in plan.steps) else []
    expects = dict.fromkeys(" ".join(s.expects) for s in plan.steps if s.expects)
    return tuple(visible(s) for s in (*said, *(f"it holds that: {e}" for e in expects)))


def _be(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _verdict(vetting: Vetting | None) -> Verdict:
    if vetting is None:
        return Verdict("This plan was not vetted, or the result was not given: nobody has shown that every order of its steps is safe.")
    wrong = sum(f.severity != "note" for f in vetting.findings)
    said = (
        "Vetting has no findings."
        if vetting.is_clean
        else f"Vetting has {wrong} finding{'s' * (wrong != 1)}: read {'it' if wrong == 1 else 'them'} before you begin."
    )
    rows = tuple((f.severity, visible(f.id), visible(f"{f.message}; {f.cure}")) for f in vetting.findings)
    return Verdict(said, rows, tuple(map(visible, vetting.accepted)))


def _expectation(forecast: Forecast | None) -> Expectation:
    if forecast is None:
        return Expectation("No forecast was given: durations below are those of the recipes, and the capacity left is not known.")
    rows = [(m, forecast.metrics[m]) for m in SHOWN if m in forecast.metrics]
    words = {True: "met", False: "missed", None: "the replications cannot tell"}
    return Expectation(
        f"{forecast.replications} replications, seed {forecast.seed}.",
        tuple((METRICS[m].meaning, *_expected(m, e)) for m, e in rows if m not in OUTCOMES or e.mean),
        tuple((visible(goal), words[met]) for goal, met in forecast.goals.items()),
    )


def _expected(metric: str, value: Expected) -> tuple[str, str]:
    return (number(metric, value.mean), "") if metric in OUTCOMES else (number(metric, value.p50), number(metric, value.p95))


def _lost(plan: Plan, forecast: Forecast | None) -> tuple[str, ...]:
    commands = [s for s in plan.steps if s.kind == "step" and s.run]
    blind = sum(not s.check for s in commands)
    look = f" {blind} of {len(commands)} commands have no check: look on the host before one of them is typed again." if blind else ""
    counted = ["a judge's failures, with hosts that cannot be reached among them"] if any(s.judge for s in plan.steps) else []
    counted += ["the units of a pool that are taken"] if plan.pools else []
    secrets = ", secrets too, and nothing masks them in what a command prints" if any(s.secrets for s in plan.steps) else ""
    return (
        "Nothing is on record before a command is sent, and an outcome that nobody knows blocks nothing. After a lost connection run "
        f"the step's check before its command is typed again.{look}",
        *([f"Nobody counts but you: {listed(counted)}."] if counted else []),
        "No lock keeps a second operator away, and nothing stops a command that comes late.",
        "Nothing is ended when its time is up, neither a command nor a wait: the times here are for your clock. Nothing pauses when a goal "
        f"is missed{' or the whole is later than 99 of 100 of its forecast' if forecast else ''}.",
        f"Lanes of a batch {'go side by side in the forecast' if forecast else 'may go side by side'}; typed one after the other they "
        "take longer.",
        "Nothing measures downtime or failed requests, nothing compares running versions with this page, and the plan may have changed "
        "since it was printed.",
        f"What is typed stays in the history of a shell{secrets}.",
    )


def _kept(plan: Plan, vetting: Vetting | None, forecast: Forecast | None) -> str:
    kept = {
        "the order": True,
        "the checks": any(s.check for s in plan.steps),
        "when to stop": any(s.fatal or s.kind != "step" for s in plan.steps),
        "how to undo": any(s.part == ROLLBACK for s in plan.steps),
        "what was proved": vetting is not None,
        "what was forecast": forecast is not None,
    }
    return f"What it keeps: {listed([what for what, is_kept in kept.items() if is_kept])}."


def _chapter(plan: Plan, part: Part, undo: Undoing, forecast: Forecast | None, vetting: Vetting | None) -> Chapter:
    title = {MAIN: "Batches", ROLLBACK: "Rollback"}.get(part.part, f"Forward, round {part.part}")
    return Chapter(title, _intro(plan, part.part), tuple(_stages(plan, part, undo, forecast, vetting)))


def _intro(plan: Plan, part: int) -> tuple[str, ...]:
    undoable = any(s.part == ROLLBACK for s in plan.steps)
    if part == MAIN:
        return () if undoable else ("This plan has no rollback. If it is aborted, let lanes that have begun end, and begin nothing else.",)
    if part == ROLLBACK:
        point = any(s.no_return for s in plan.steps)
        return (
            "Only after an abort, and only once nothing runs any more. Do each step whose condition holds, pass over the others.",
            *(["Not once the point of no return has begun: then halt."] if point else []),
        )
    return (
        f"Only after the gate before it has said no and asks to go forward. It brings a fix: round {part} is followed like the batches.",
    )


def _alike(a: Batch, b: Batch) -> bool:
    return [e.shape for e in a.entries] == [e.shape for e in b.entries] and any(not e.is_check and e.first.target for e in a.entries)


def _stages(plan: Plan, part: Part, undo: Undoing, forecast: Forecast | None, vetting: Vetting | None) -> list[Stage]:
    runs: list[list[Batch]] = []
    for batch in part.batches:
        if runs and _alike(runs[-1][0], batch):
            runs[-1].append(batch)
        else:
            runs.append([batch])
    shown = [some for run in runs for some in ([run] if len(run) >= LEAST_ALIKE else [[b] for b in run])]
    return [_stage(plan, run, undo, forecast, vetting, part.part == MAIN and i == 0) for i, run in enumerate(shown)]


def _stage(plan: Plan, run: list[Batch], undo: Undoing, forecast: Forecast | None, vetting: Vetting | None, first: bool) -> Stage:
    merged = [_together([b.entries[k] for b in run], run) for k in range(len(run[0].entries))]
    numbers = f"{run[0].number} to {run[-1].number}, one after the other" if len(run) > 1 else run[0].number
    return Stage(
        title=f"Batch{'es' * (len(run) > 1)} {numbers}",
        rounds=tuple(Round(b.number, many(b.machines) or "no machine", _begins(b, forecast)) for b in run),
        go=_go(run[0], merged, first),
        instructions=tuple(instruction(plan, e, undo, forecast, vetting) for e in merged),
    )


def _together(entries: list[Entry], run: list[Batch]) -> Entry:
    """One entry for those of like batches."""
    first = entries[0]
    if len(entries) == 1:
        return first
    place = first.number.rsplit(".", 1)[1]
    steps, machines = tuple(s for e in entries for s in e.steps), tuple(m for e in entries for m in e.machines)
    return first._replace(number=f"{run[0].number}-{run[-1].number}.{place}", steps=steps, machines=machines)


def _begins(batch: Batch, forecast: Forecast | None) -> str:
    if forecast is None:
        return "no forecast"
    told = [forecast.steps[s.id].begins_s.p50 for e in batch.entries for s in e.steps if s.id in forecast.steps]
    known = [t for t in told if t is not None]
    return f"{clock(min(known))} after the start" if known else "rarely begins"


def _go(batch: Batch, merged: list[Entry], first: bool) -> tuple[str, ...]:
    begins_part = batch.number.lstrip("R").rsplit(".", 1)[-1] == "1"
    said = ["preflight is done and every box of it ticked" if first else "it is decided to do this section, and nothing of another runs"]
    if not first and not begins_part:
        said = ["every step of the batch before has ended, and its judge and gate let it pass"]
    said.append("no alarm is open, and everybody who is needed is there")
    for entry in merged:
        judge = entry.first.judge
        if judge is not None and most_failures(judge) is not None:
            said.append(
                f"everybody knows when to stop: {judge_words(judge)}" if len(entry.steps) == 1 else f"when to stop: {_limits(entry.steps)}"
            )
    if any(e.first.no_return for e in merged):
        said.append(
            "NO WAY BACK: once the step marked in this batch has begun nothing is rolled back any more; the one who decides says so"
        )
    return tuple(dict.fromkeys(map(visible, said)))


def _limits(judges: Sequence[Step]) -> str:
    return listed(list(dict.fromkeys(judge_words(s.judge) for s in judges if s.judge)))
