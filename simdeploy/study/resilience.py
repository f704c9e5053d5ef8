"""What every disruption would cost an environment as it is protected now, held against its policy, and what would mend each breach."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simdeploy.environment.models import Environment
from simdeploy.environment.policy import DISRUPTIONS, Lose, Policy
from simdeploy.errors import InvalidDocument, StudyError
from simdeploy.plan.plan import Plan
from simdeploy.simulation import statistics
from simdeploy.simulation.outcome import Floats, Outcome, simulate_all
from simdeploy.study.causes import culprits_of
from simdeploy.study.comparison import finite
from simdeploy.study.cures import CURES, Cure, Objective
from simdeploy.study.disruptions import Loss, losses, nothing_to_lose, plan_after, what_survives
from simdeploy.tables import listed, mime_bundle
from simdeploy.units import format_s

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int], None]
METRIC_OF: dict[Objective, str] = {"rto": "rto_s", "rpo": "data_loss_s"}
TRIED = 400
"""Replications with which cures are tried at most: they support a p99."""
NAMED = 2
"""How many actions a cause names at most."""


class Figure(NamedTuple):
    """One figure of one disruption."""

    p50: float | None
    tail: float | None
    """At the quantile at which the policy is held; None where the replications do not support it, or nothing can be recovered."""
    objective_s: float | None = None
    met: bool | None = None
    """None where nothing is promised, or the replications cannot tell."""

    @property
    def missed(self) -> bool:
        """Whether something is promised and not shown to be kept."""
        return self.objective_s is not None and not self.met


class Row(NamedTuple):
    """What one disruption costs."""

    loss: Loss
    problem: str
    """Why there is no recovery, where there is none."""
    rto: Figure
    rpo: Figure
    downtime: Figure

    def held(self, objective: Objective) -> Figure:
        """The figure that is held against *objective*."""
        return self.rto if objective == "rto" else self.rpo


class Trial(NamedTuple):
    """What is left of a breach with one cure."""

    cure: Cure
    tail: float | None
    met: bool


class Breach(NamedTuple):
    """An objective that the worst of its disruptions misses, why, and what would mend it."""

    row: Row
    objective: Objective
    cause: str
    trials: tuple[Trial, ...]
    """The cures that were tried, up to the first that suffices."""

    @property
    def figure(self) -> Figure:
        """What is missed."""
        return self.row.held(self.objective)

    @property
    def best(self) -> Trial | None:
        """The cure that leaves least, which suffices if one does; None where none leaves less than there is."""
        known = [t for t in self.trials if t.tail is not None and t.tail < (math.inf if self.figure.tail is None else self.figure.tail)]
        return min(known, key=lambda t: t.tail or 0.0, default=None)


class Resilience(NamedTuple):
    """The matrix of an environment: each disruption, what it costs, what was promised, and the breaches."""

    environment: Environment
    rows: tuple[Row, ...]
    """Every disruption, from the smallest to the largest."""
    nothing: dict[Lose, str]
    """Disruption that the environment cannot meet -> why."""
    breaches: tuple[Breach, ...]
    replications: int
    seed: int
    interrupted: bool = False

    def __repr__(self) -> str:
        return f"<Resilience of {self.environment.name}: {len(self.breaches)} objectives missed, {self.replications} replications>"

    @property
    def policy(self) -> Policy:
        """What was promised."""
        return self.environment.policy

    @property
    def worst(self) -> tuple[Row, ...]:
        """Of each kind of disruption the one with the worst RTO and the one that loses most, often the same."""
        return tuple(row for lose in DISRUPTIONS for row in _worst([r for r in self.rows if r.loss.lose == lose]))

    @property
    def untold(self) -> tuple[Lose, ...]:
        """Disruptions of which something is promised and nothing can be told: the loss of a zone where none is stated."""
        wanted = self.policy.zone
        return ("zone",) if "zone" in self.nothing and self.rows and (wanted.rto_s is not None or wanted.rpo_s is not None) else ()

    @property
    def all_met(self) -> bool:
        """Whether everything that is promised is shown to be kept."""
        return not self.untold and not any(row.rto.missed or row.rpo.missed for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The matrix as plain data (format 1); what the replications cannot support and what has no bound is None."""
        policy = self.policy
        return {
            "format": 1,
            "environment": self.environment.name,
            "seed": self.seed,
            "replications": self.replications,
            "held_at": policy.held_at,
            "all_met": self.all_met,
            "disruptions": [
                {
                    "lose": row.loss.lose,
                    "which": row.loss.which,
                    "alike": list(row.loss.alike),
                    "worst": any(row is one for one in self.worst),
                    "problem": row.problem or None,
                    "rto_s": _figure(row.rto),
                    "data_loss_s": _figure(row.rpo),
                    "downtime_s": _figure(row.downtime),
                }
                for row in self.rows
            ],
            "nothing_to_lose": dict(self.nothing),
            "breaches": [
                {
                    "lose": b.row.loss.lose,
                    "which": b.row.loss.which,
                    "objective": b.objective,
                    "cause": b.cause,
                    "cures": [{"cure": t.cure.name, "what": t.cure.text, "tail": finite(t.tail), "met": t.met} for t in b.trials],
                    "sentence": sentence(b, policy.held_at),
                }
                for b in self.breaches
            ],
        }

    def to_json(self) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def frame(self) -> pd.DataFrame:
        """One row per disruption [s]: lose, which, alike (how many), problem; of rto, rpo and downtime p50 and tail (at the policy's
        quantile); of rto and rpo also objective and met."""
        import pandas as pd

        rows = []
        for row in self.rows:
            cells: dict[str, Any] = {
                "lose": row.loss.lose,
                "which": row.loss.which,
                "alike": max(1, len(row.loss.alike)),
                "problem": row.problem,
            }
            for name, figure in (("rto", row.rto), ("rpo", row.rpo), ("downtime", row.downtime)):
                cells |= {f"{name}_p50_s": figure.p50, f"{name}_tail_s": figure.tail}
                if name != "downtime":
                    cells |= {f"{name}_objective_s": figure.objective_s, f"{name}_met": figure.met}
            rows.append(cells)
        return pd.DataFrame(rows)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.study.resilience_overview import matrix

        return mime_bundle(matrix(self), *(sentence(b, self.policy.held_at) for b in self.breaches))


def resilience(
    environment: Environment, replications: int = 1000, seed: int = 0, jobs: int | None = None, progress: Progress | None = None
) -> Resilience:
    """What every disruption costs *environment*, against its policy, each at a random moment of the copies' schedules.

    Every disruption and every cure meets the same luck. Raises StudyError where the environment does not say how its people
    answer a disaster.
    """
    if not isinstance(environment, Environment):
        raise StudyError(f"a {type(environment).__name__} is no Environment; read one with load_environment(path)")
    _check_recovery(environment)
    plans: dict[Loss, Plan] = {}
    problems: dict[Loss, str] = {}
    for loss in losses(environment):
        try:
            plans[loss] = plan_after(environment, loss)
        except InvalidDocument as error:
            problems[loss] = listed([p.message for p in error.problems], most=3)
    named = {str(loss): plan for loss, plan in plans.items()}
    outcomes = simulate_all(named, replications, seed, jobs, progress, paths=0) if named else {}
    interrupted = any(o.interrupted for o in outcomes.values())
    rows = tuple(_row(environment.policy, loss, problems.get(loss, ""), outcomes.get(str(loss))) for loss in losses(environment))
    done = min((o.replications for o in outcomes.values()), default=replications)
    found = Resilience(environment, rows, nothing_to_lose(environment), (), done, seed, interrupted)
    if interrupted:
        return found
    breaches, whole = _breaches(found, plans, outcomes, jobs, progress)
    return found._replace(breaches=breaches, interrupted=not whole)


def _check_recovery(env: Environment) -> None:
    there = {"detect": env.recovery.detect, "decide": env.recovery.decide, "validate": env.recovery.validation}
    missing = [key for key, duration in there.items() if duration is None]
    if missing:
        message = f"environment {env.name!r} does not say how its people answer a disaster: 'recovery' lacks {listed(missing)}"
        raise StudyError(f"{message}; add for example 'recovery: {{detect: 5 min, decide: 15 min, validate: 15 min}}'")


def _row(policy: Policy, loss: Loss, problem: str, outcome: Outcome | None) -> Row:
    promised = policy.objective(loss.lose)
    if outcome is None:
        rto, rpo = (Figure(None, None, s, None if s is None else False) for s in (promised.rto_s, promised.rpo_s))
        return Row(loss, problem, rto, rpo, Figure(None, None))
    values = outcome.values
    rto, rpo = _held(policy, values["rto_s"], promised.rto_s), _held(policy, values["data_loss_s"], promised.rpo_s)
    return Row(loss, problem, rto, rpo, _held(policy, values["downtime_s"], None))


def _held(policy: Policy, values: Floats, objective_s: float | None) -> Figure:
    """A figure against what is promised; a run that never gets there takes without end."""
    known = np.where(np.isnan(values), math.inf, values)
    p50, tail = statistics.quantile(known, 0.5), statistics.quantile(known, policy.share)
    met = None if objective_s is None or tail is None else tail <= objective_s * (1 + 1e-9)
    return Figure(p50, tail, objective_s, met)


def _worst(rows: Sequence[Row]) -> list[Row]:
    """The row with the worst RTO and the one that loses most; ties go to what is worse otherwise, then to the first."""

    def by(*names: str) -> Callable[[Row], tuple[Any, ...]]:
        def cost(row: Row) -> tuple[Any, ...]:
            figures = [getattr(row, name) for name in names]
            return (bool(row.problem), *(f.p50 or 0.0 if f.tail is None else f.tail for f in figures))

        return cost

    if not rows:
        return []
    slowest, dearest = max(rows, key=by("rto", "downtime", "rpo")), max(rows, key=by("rpo", "rto", "downtime"))
    return [slowest] if slowest is dearest else [slowest, dearest]


def _breaches(
    found: Resilience, plans: dict[Loss, Plan], outcomes: dict[str, Outcome], jobs: int | None, progress: Progress | None
) -> tuple[tuple[Breach, ...], bool]:
    """What is missed and what would mend it; whether all cures could be tried."""
    env, breaches = found.environment, list[Breach]()
    trials = _Trials(found, jobs, progress)
    for lose in DISRUPTIONS:
        rows = _worst([r for r in found.rows if r.loss.lose == lose])
        worst: list[tuple[Objective, Row]] = [("rto", rows[0]), ("rpo", rows[-1])] if rows else []
        for objective, row in worst:
            if row.held(objective).met is not False:
                continue
            cause = row.problem or _cause(env, row, objective, plans[row.loss], outcomes[str(row.loss)])
            try:
                breaches.append(Breach(row, objective, cause, tuple(trials.of(row, objective))))
            except KeyboardInterrupt:
                return tuple(breaches), False
    return tuple(breaches), True


class _Trials:
    """Cures tried once for each disruption."""

    def __init__(self, found: Resilience, jobs: int | None, progress: Progress | None) -> None:
        self._found, self._jobs, self._progress = found, jobs, progress
        self._outcomes: dict[tuple[Loss, str], Outcome | None] = {}

    def of(self, row: Row, objective: Objective) -> Iterator[Trial]:
        """The cures of one breach, up to the first that suffices. Where nothing can be recovered all that may help are tried."""
        for cure in CURES:
            if row.loss.lose not in cure.against or not (row.problem or objective in cure.mends):
                continue
            outcome = self._outcome(row.loss, cure)
            if outcome is None:
                continue
            reached = _held(self._found.policy, outcome.values[METRIC_OF[objective]], row.held(objective).objective_s)
            yield Trial(cure, reached.tail, bool(reached.met))
            if reached.met:
                return

    def _outcome(self, loss: Loss, cure: Cure) -> Outcome | None:
        """What *cure* comes to; None where it changes nothing or there is no recovery with it either."""
        if (loss, cure.name) not in self._outcomes:
            self._outcomes[loss, cure.name] = self._simulated(loss, cure)
        return self._outcomes[loss, cure.name]

    def _simulated(self, loss: Loss, cure: Cure) -> Outcome | None:
        changed = cure.change(self._found.environment, loss)
        if changed is None:
            return None
        try:
            plan = plan_after(changed[0], loss, changed[1])
        except InvalidDocument:
            return None
        replications = min(self._found.replications, TRIED)
        outcome = simulate_all({cure.name: plan}, replications, self._found.seed, self._jobs, self._progress, paths=0)[cure.name]
        if outcome.interrupted:
            raise KeyboardInterrupt
        return outcome


def _cause(env: Environment, row: Row, objective: Objective, plan: Plan, outcome: Outcome) -> str:
    """Why an objective is missed."""
    if objective == "rpo":
        left = listed(list(what_survives(env, row.loss)))
        before = "all that is written until it is noticed and stopped is lost, and " if row.loss.lose == "application" else ""
        return f"{before}{left}"
    never = float(np.mean(np.isnan(outcome.values["rto_s"])))
    if never > 1 - env.policy.share:
        return f"in {100 * never:.3g} % of the runs the demand is not carried again"
    parts = [
        f"{c.action}{'' if c.action in ('detect', 'notice', 'decide', 'validate') else f' of {c.service}'}"
        f" (half of it saves {format_s(c.saved)})"
        for c in culprits_of(plan, "rto_s")[:NAMED]
    ]
    return f"what takes longest is {', then '.join(parts)}" if parts else "no step of it alone would save anything"


def sentence(breach: Breach, held_at: str, reasons: bool = True) -> str:
    """A breach in words: what is missed, why, and what would mend it; why there is no recovery only with *reasons*."""
    row, figure, best = breach.row, breach.figure, breach.best
    what = "RTO" if breach.objective == "rto" else "RPO"
    reached = "no recovery" if row.problem else f"{reached_text(figure.tail, breach.objective)} at {held_at}"
    cause = f"; {breach.cause}" if reasons or not row.problem else ""
    start = f"{row.loss}, {what} {promised_text(figure.objective_s or 0.0)}: {reached}{cause}."
    if best is None:
        return f"{start} No cure that is known here changes that for the better."
    with_it = f"{best.cure.text} ({held_at} {reached_text(best.tail, breach.objective)})"
    if best.met:
        return f"{start} Mended by {with_it}."
    return f"{start} No single cure mends it; the best is {with_it}."


def promised_text(objective_s: float) -> str:
    """An objective as a policy states it: '90 min', '24 h'."""
    units = (("h", 3600.0), ("min", 60.0), ("s", 1.0))
    unit, size = next(((unit, size) for unit, size in units if objective_s >= size and not objective_s % size), units[-1])
    return f"{objective_s / size:g} {unit}"


def reached_text(value: float | None, objective: Objective) -> str:
    """A figure for reading."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "never" if objective == "rto" else "no bound"
    return format_s(value)


def _figure(figure: Figure) -> dict[str, Any]:
    return {"p50": finite(figure.p50), "tail": finite(figure.tail), "objective": figure.objective_s, "met": figure.met}
