"""An explanation at a glance."""

from __future__ import annotations

import math

from simdeploy.plan.metrics import METRICS
from simdeploy.plan.overview import number
from simdeploy.study.comparison import mean_of, with_unit, words
from simdeploy.study.criticality import Criticality
from simdeploy.study.explanation import Explanation
from simdeploy.study.overview import signed
from simdeploy.study.robustness import FACTORS, Robustness, Variant, VariedInput
from simdeploy.study.worst import WorstRun
from simdeploy.tables import Table, listed
from simdeploy.units import format_s

MOST_STEPS = 12
MOST_ACTIONS = 12
MOST_INPUTS = 12
MOST_SCHEDULED = 40
MOST_EVENTS = 8


def tables(explanation: Explanation) -> list[Table]:
    """Where the time goes, by action and by step; what speeding up would buy; the tornado; the worst run."""
    found = [actions(explanation.criticality), steps(explanation.criticality)]
    if explanation.speedups is not None:
        found.append(speedups(explanation))
    if explanation.sensitivity is not None:
        found.append(tornado(explanation.sensitivity))
    if explanation.worst is not None:
        found.append(schedule(explanation.worst))
    return found


def sentences(explanation: Explanation) -> list[str]:
    """What was unusual in the worst run, and what to measure first."""
    found = [unusual(explanation.worst)] if explanation.worst is not None else []
    return [*found, explanation.sensitivity.sentence] if explanation.sensitivity is not None else found


def actions(followed: Criticality) -> Table:
    """One row per action of a service: how often it decides when a run ends, and what it adds to that."""
    frame = followed.actions()
    shown = frame[frame["index"] > 0].head(MOST_ACTIONS)
    rows = [
        (_action(row["service"], row["action"]), str(row["steps"]), _share(row["index"]), format_s(row["path_s"]), _share(row["share"]))
        for row in shown.to_dict(orient="records")
    ]
    if followed.waited_s > 0:
        whole_s = float(followed.path_s.sum()) + followed.waited_s
        rows.append(("until a dead machine was back", "", "", format_s(followed.waited_s), _share(followed.waited_s / whole_s)))
    notes = ["critical: share of the runs whose end waits for it"]
    never = int((frame["index"] == 0).sum())
    smaller = len(frame) - len(shown) - never
    counts = {"that add less": smaller, "that are never critical": never}
    if left := [f"{count} {what}" for what, count in counts.items() if count]:
        notes.append(f"actions not shown: {listed(left)}")
    title = f"Where the time of {followed.plan.source.strategy} goes: {followed.replications:,} replications, seed {followed.seed}"
    return Table(title, ("action", "steps", "critical", "adds to the\nmakespan", "share"), rows, "\n".join(notes))


def steps(followed: Criticality) -> Table:
    """The steps that are critical most often, one row each."""
    frame = followed.frame()
    frame = frame[frame["path_s"] > 0].sort_values(["index", "path_s"], ascending=False, kind="stable")
    rows = [
        (
            _short(row["step"]),
            _share(row["index"]),
            f"{100 * row['ci95_low']:.1f} to {100 * row['ci95_high']:.1f} %",
            format_s(row["lasts_s"]),
        )
        for row in frame.head(MOST_STEPS).to_dict(orient="records")
    ]
    left = len(frame) - len(rows)
    note = f"{left} more are critical in some run: --part criticality --format csv" if left else ""
    return Table("Steps, the most critical first", ("step", "critical", "95 % interval", "takes"), rows, note)


def speedups(explanation: Explanation) -> Table:
    """One row per action: what it saves when it takes half as long."""
    done = explanation.speedups or []
    metrics = list(done[0].differences) if done else []
    rows = [(_action(s.service, s.action), *(signed(s.differences[m], m) for m in metrics)) for s in done]
    header = ("action, twice as fast", *(words(m).replace(" ", "\n") for m in metrics))
    return Table("What a faster step would buy, under the same luck (mean ± 95 % interval)", header, rows)


def tornado(varied: Robustness) -> Table:
    """One row per input that moves the metric, the largest swing first: what half and double of it do."""
    ordered = sorted(varied.inputs, key=lambda i: -i.swing)
    shown = [i for i in ordered if i.swing > 0][:MOST_INPUTS]
    rows = [(_input(i), i.was, _moved(i.half, varied), _moved(i.double, varied)) for i in shown]
    still = sum(i.swing == 0 for i in ordered)
    metric, outcome = varied.metric, varied.outcome
    left = len(ordered) - still - len(shown)
    notes = [f"{words(metric)}: {with_unit(mean_of(outcome, metric), metric)} in the mean as it is; m: measured, the others are assumed"]
    notes += [f"{i.at} cannot be {FACTORS[v.factor]}: {v.problem}" for i in shown for v in (i.half, i.double) if v.problem]
    notes.append(f"inputs that do not move it: {still}{f'; smaller ones that do: {left}' if left else ''}")
    title = f"What moves {words(metric)} of {varied.recommended}: inputs halved and doubled, {outcome.replications:,} replications"
    return Table(title, ("input", "is", "halved", "doubled"), rows, "\n".join(notes), left=(0, 1))


def schedule(run: WorstRun) -> Table:
    """The worst run, one row per step by its begin; of a large plan the steps that its end waited for."""
    shown = run.steps if len(run.steps) <= MOST_SCHEDULED else [s for s in run.steps if s.critical]
    rows = [
        (
            f"{'*' if s.critical else ' '} {_short(s.step)}",
            format_s(s.begins_s),
            _lasted(s.lasts_s, s.result),
            _rank(s.longer_than),
            _short(s.after),
        )
        for s in shown[:MOST_SCHEDULED]
    ]
    notes = ["* critical: the end of the run waited for it", "longer than: share of the other runs in which the step took less time"]
    if left := len(run.steps) - len(rows):
        notes.append(f"{left} more steps ran; all of them: --part worst --format csv")
    value = number(run.metric, run.value)
    unit = METRICS[run.metric].unit
    said = value if unit in ("s", "share", "probability", "requests") else f"{value} {unit}"
    title = f"The worst run by {words(run.metric)} ({said}): replication {run.replication}, which ended as {run.trace.outcome}"
    return Table(title, ("step", "begins", "takes", "longer\nthan", "after"), rows, "\n".join(notes), left=(0, 4))


def unusual(run: WorstRun) -> str:
    """What was out of the ordinary in a run, in a sentence or two."""
    slow = [f"{_short(s.step)} took {format_s(s.lasts_s)}, {format_s(s.excess_s)} more than in the mean" for s in run.unusual[:3]]
    events = [f"{_short(r.subject)} {_event(r.kind, r.value)} at {format_s(r.at_s)}" for r in run.events[:MOST_EVENTS]]
    more = len(run.events) - len(events)
    said = [f"Unusual in replication {run.replication}: {listed(slow) or 'no step took longer than in 95 % of the other runs'}."]
    if events:
        said.append(f"Also, {listed([*events, *([f'{more} more events'] if more > 0 else [])], most=MOST_EVENTS + 1)}.")
    return " ".join(said)


def _event(kind: str, value: str | float) -> str:
    if kind == "ended":
        return "failed"
    if kind == "aborted":
        return f"aborted it ({value})"
    return {"crashed": "died", "repaired": "was back", "corrupted": "was corrupted", "bad_release": "brought a bad release"}[kind]


def _action(service: str, action: str) -> str:
    return f"{action} of {service}" if service else action


def _short(step: str) -> str:
    """A step's id without its phase, which tells nothing that its action does not."""
    return step.partition("/")[2] or step


def _share(share: float) -> str:
    return f"{100 * share:.0f} %" if share in (0, 1) else f"{100 * share:.1f} %"


def _between(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _rank(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"


def _lasted(lasts_s: float, result: str) -> str:
    return format_s(lasts_s) if result == "succeeded" else f"{format_s(lasts_s)} {result}"


def _input(one: VariedInput) -> str:
    name = one.at.removeprefix("services.").replace(".actions.", ".").removesuffix(".duration")
    return f"{name} (m)" if one.mark == "measured" else name


def _moved(variant: Variant, varied: Robustness) -> str:
    return "not possible" if variant.problem else signed(variant.difference, varied.metric)
