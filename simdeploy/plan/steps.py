"""One action of a plan, and what it does to the environment while it runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from simdeploy.environment.base import Frozen
from simdeploy.environment.durations import ZERO, Duration
from simdeploy.environment.models import Artefact, Retry
from simdeploy.environment.names import Name, Reference
from simdeploy.plan.effects import Effect

Kind = Literal["step", "gate", "judge"]
Section = Literal["main", "rollback", "forward"]
Reaction = Literal["rollback", "forward", "halt"]
MAIN, ROLLBACK = 0, -1
"""Parts of a plan, beside the forward rounds 1, 2, ..."""
Of = Literal["batch", "carried", "plan", "all_of_batch"]
Subject = Literal["new", "old", "primary", "monitoring"]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Judge(Frozen):
    """What a judge counts at the end of a batch: it aborts when strictly more than `limit` of `watch` failed.

    With `all_of_batch` it aborts when no fewer than `size` of them failed, whatever `limit` and `unit` say.
    """

    watch: tuple[str, ...]
    """Ids of the batch's steps."""
    size: int = Field(ge=1)
    """Planned instances of the batch (`of: plan`: of the plan); what a percentage refers to."""
    limit: float | None = Field(default=0.0, ge=0)
    """None = never abort."""
    unit: Literal["count", "percent"] = "count"
    of: Of = "batch"
    """Whose failures count: this batch's, or all of its section so far."""


class Gate(Frozen):
    """A check of the release: finds a bad one with `sensitivity`, a good one bad with `false_alarms`."""

    of: Subject = "primary"
    """What is looked at; through monitoring a bad version is found only where a serving monitor has checks for it."""
    sensitivity: float = Field(default=1.0, ge=0, le=1)
    false_alarms: float = Field(default=0.0, ge=0, le=1)
    reaction: Reaction = "rollback"
    """forward: on to the next round of section `forward`, which brings a fix."""


def _factor(value: Any) -> Any:
    return tuple(tuple(p) if isinstance(p, list) else p for p in value) if isinstance(value, list) else value


Factors = Annotated[
    tuple[tuple[str, Annotated[float, Field(ge=0, le=1)]], ...],
    BeforeValidator(_factor),
    PlainSerializer(lambda pairs: [list(p) for p in pairs]),
]


class Step(Frozen):
    """One action on one target. Everything but `id` has a default, and defaults are left out of the JSON."""

    id: str = Field(min_length=1)
    """`phase/target/action`, with `#k` for the k-th time."""
    kind: Kind = "step"
    section: Section = "main"
    round: int = Field(default=1, ge=1)
    """Of a forward step: the unrolled round to which it belongs."""
    needs: tuple[str, ...] = ()
    """Must have succeeded (or been not needed), else this step is skipped."""
    after: tuple[str, ...] = ()
    """Must have ended, in any way."""
    began: tuple[str, ...] = ()
    """Guard of a rollback or forward step over steps of earlier sections: any of these began."""
    unbegun: tuple[str, ...] = ()
    """Guard: none of these began."""
    done: tuple[str, ...] = ()
    """Guard: all of these succeeded."""
    undone: tuple[str, ...] = ()
    """Guard: at least one of these did not succeed."""
    target: str = ""
    """The instance or service that it affects."""
    lane: str = ""
    """The lane that it belongs to, whatever its target: once any of it has begun, a halt lets all of it run to its end. By
    default steps on one target that need each other are a lane."""
    on: str = ""
    """The machine that executes it; "" = the operator's desk."""
    duration: Duration = ZERO
    """Of one attempt."""
    until_idle: bool = False
    """It drains its target and lasts, instead of `duration`, until the target's last request has ended; `timeout_s` cuts what is left."""
    replays: str = ""
    """A store: it lasts, instead of `duration`, until the log is replayed that the run's latest restore of the store left to be."""
    pools: tuple[tuple[str, int], ...] = ()
    """(pool, units) held from the first attempt to the last."""
    p_fail: float = Field(default=0.0, ge=0, le=1)
    """Of one attempt."""
    retries: int = Field(default=0, ge=0, le=1000)
    retry_delay: Duration = ZERO
    timeout_s: Seconds | None = None
    """Bounds one attempt, and fails it; with `until_idle` it cuts what is left, and the step succeeds."""
    begin: tuple[Effect, ...] = ()
    """Effects when the first attempt begins."""
    end: tuple[Effect, ...] = ()
    """Effects when it succeeds."""
    slow: Factors = ()
    """(instance, share of its capacity that is left) while it runs, retries included; 0 = a lock."""
    gate: Gate | None = None
    judge: Judge | None = None
    awaited: bool = True
    """Whether an abort waits for its end. A look, or a pause before one, changes nothing, so that it need not be finished."""
    no_return: bool = False
    """Once it began there is no undo."""
    fatal: bool = False
    """Its failure aborts the plan at once."""
    run: tuple[str, ...] = ()
    """What the runner executes. The forecast reads neither this nor `check` and `expects`."""
    check: tuple[str, ...] = ()
    """Exits 0 when the step's effect is there already."""
    expects: tuple[str, ...] = ()
    """Exits 0 when the world is as the step needs it; else the runner stops before it."""
    retry: Retry = "checked"
    """Whether `run` may be sent again without its `check` having shown that it took no effect."""
    artefact: Artefact | None = None
    """The file that it installs."""
    secrets: dict[Name, Reference] = {}
    """Name in the surroundings of `run` and `check` -> where the secret is; never the secret itself."""

    @property
    def part(self) -> int:
        """When it has its turn: MAIN, then the forward rounds by number; ROLLBACK."""
        return {"main": MAIN, "rollback": ROLLBACK}.get(self.section, self.round)

    @property
    def action(self) -> str:
        """The last part of the id: what is done."""
        return self.id.rsplit("/", 1)[-1]

    @property
    def mean_s(self) -> float:
        """Mean time from the first attempt's begin to the last one's end, ignoring the time-out [s].

        A drain that lasts until idle is taken to last its whole time-out, since its length follows from the load; how long
        a replay lasts is known to its plan alone. Mean attempts with r retries are (1 - p^(r+1)) / (1 - p), each but the
        first after a retry delay.
        """
        attempt_s = self.timeout_s or 0.0 if self.until_idle else self.duration.mean_s
        if self.p_fail == 0:
            return attempt_s
        p, n = self.p_fail, self.retries + 1
        attempts = (1 - p**n) / (1 - p) if p < 1 else float(n)
        return attempts * attempt_s + (attempts - 1) * self.retry_delay.mean_s
