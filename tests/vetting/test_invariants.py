"""Plans that are broken on purpose: each is caught by the invariant that it breaks, and what else is found follows from the same fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from simdeploy.environment.models import Environment
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.simulation.replay import replay
from simdeploy.vetting.vet import INVARIANTS, vet

Broken = dict[str, Any]

ENVIRONMENT: Broken = {
    "name": "e",
    "machines": [
        *({"name": f"w{i}", "zone": "abc"[i]} for i in range(3)), *({"name": f"m{i}"} for i in range(3)), {"name": "s0"}, {"name": "s1"},
        *({"name": f"k{i}"} for i in range(3)), {"name": "e0"}, {"name": "e1"}, {"name": "o0"}, {"name": "o1"}, {"name": "new"},
    ],
    "entry": "web",
    "demand": {"rate": "100 req/s"},
    "services": {
        "web": {
            "on": ["w0", "w1", "w2", "new"], "capacity": "100 req/s",
            "calls": {"mid": 1}, "accepts": {"1": {"mid": ["1"]}, "2": {"mid": ["1", "2"]}},
        },
        "mid": {
            "on": ["m0", "m1", "m2"], "capacity": "100 req/s", "calls": {"sql": 1, "keys": 1, "jobs": {"times": 0, "dependency": "soft"}},
        },
        "sql": {"role": "datastore", "on": ["s0", "s1"], "capacity": "200 req/s", "version": "7"},
        "keys": {"role": "quorum", "on": ["k0", "k1", "k2"]},
        "jobs": {"role": "leader_elected", "on": ["e0", "e1"]},
        "watch": {"role": "monitoring", "on": ["o0", "o1"]},
    },
}  # fmt: skip


def step(name: str, target: str, **fields: Any) -> Step:
    machine = target.partition("@")[2]
    return Step.model_validate({"id": name, "target": target, "on": machine, "run": ["do", name], "check": ["done", name], **fields})


def lane(instance: str, after: Iterable[str] = (), version: str | None = "2", section: str = "main", **guard: Any) -> list[Step]:
    """Out, install, back."""
    p = "" if section == "main" else "back/"
    fields = {"section": section, **guard}
    out = step(f"{p}{instance}/out", instance, after=tuple(after), begin=[["drain", instance]], end=[["out", instance]], **fields)
    new = [["version", instance, version]] if version else []
    install = step(f"{p}{instance}/install", instance, needs=(out.id,), end=new, **fields)
    return [out, install, step(f"{p}{instance}/start", instance, needs=(install.id,), end=[["serve", instance]], **fields)]


def judge(name: str, lanes: Iterable[list[Step]], limit: float | None = 0, section: str = "main") -> Step:
    lanes = list(lanes)
    watch = [s.id for one in lanes for s in one]
    spec = {"watch": watch, "size": len(lanes), "limit": limit}
    return Step.model_validate({"id": name, "kind": "judge", "section": section, "after": [one[-1].id for one in lanes], "judge": spec})


def one_by_one(*instances: str, limit: float | None = 0, version: str | None = "2", first: Iterable[str] = ()) -> list[Step]:
    steps: list[Step] = []
    barrier = tuple(first)
    for k, instance in enumerate(instances):
        one = lane(instance, barrier, version)
        steps += [*one, judge(f"judge-{instance.partition('@')[0]}-{k}", [one], limit)]
        barrier = (steps[-1].id,)
    return steps


def together(*instances: str, version: str | None = "2", limit: float | None = 0) -> list[Step]:
    lanes = [lane(i, (), version) for i in instances]
    return [*(s for one in lanes for s in one), judge("judge", lanes, limit)]


def rollback(*instances: str, batches: int = 1, skip: Iterable[str] = ()) -> list[Step]:
    """All half-done lanes first, then done ones, so many at a time."""
    half = [
        [
            step(f"half/{i}/{s}", i, section="rollback", began=[f"{i}/out"], undone=[f"{i}/start"], end=end, needs=needs)
            for s, needs, end in (("install", [], [["version", i, "1"]]), ("start", [f"half/{i}/install"], [["serve", i]]))
        ]
        for i in instances if i not in skip
    ]  # fmt: skip
    steps = [*(s for one in half for s in one), judge("half/judge", half, section="rollback")]
    barrier = [steps[-1].id]
    done = [i for i in reversed(instances) if i not in skip]
    for k in range(0, len(done), batches):
        lanes = [lane(i, barrier, "1", "rollback", done=[f"{i}/start"]) for i in done[k : k + batches]]
        steps += [*(s for one in lanes for s in one), judge(f"back/judge{k}", lanes, section="rollback")]
        barrier = [steps[-1].id]
    return steps


def plan(*steps: Step, environment: Broken | None = None, **fields: Any) -> Plan:
    env = Environment.model_validate({**ENVIRONMENT, **(environment or {})})
    return Plan.model_validate({"environment": env, "steps": steps, "start": {"absent": ["web@new"]}, **fields})


def services(**changes: Broken) -> Broken:
    return {"services": {name: {**spec, **changes.get(name, {})} for name, spec in ENVIRONMENT["services"].items()}}


WEB, MID = ("web@w0", "web@w1", "web@w2"), ("mid@m0", "mid@m1", "mid@m2")


def errors(of: Plan) -> set[str]:
    return {f.id for f in vet(of).findings if f.severity != "note"}


def notes(of: Plan) -> set[str]:
    return {f.id for f in vet(of).findings if f.severity == "note"}


def test_a_plan_that_breaks_nothing_is_clean():
    sound = plan(*one_by_one(*WEB), *rollback(*WEB), on_abort="rollback")

    assert set() == errors(sound) and vet(sound).is_clean


def surge(first: str) -> list[Step]:
    """A new web instance takes the place of w0; *first* is who comes first."""
    come = [
        step("new/allocate", "web@new", on="", end=[["out", "web@new"]]),
        step("new/install", "web@new", needs=["new/allocate"], end=[["version", "web@new", "2"]]),
        step("new/start", "web@new", needs=["new/install"], end=[["serve", "web@new"]]),
    ]
    if first == "install":
        come[1] = come[1].model_copy(update={"needs": ()})
    return come


def other_version(steps: list[Step], name: str) -> list[Step]:
    return [s.model_copy(update={"end": (("version", s.target, "0"),)}) if s.id == name else s for s in steps]


SECRET = ["deploy", "--password", "hunter2hunter2"]

BROKEN: dict[str, tuple[Callable[[], Plan], set[str]]] = {
    "all of a tier at once": (lambda: plan(*together(*WEB)), {"capacity/web"}),
    "too few left for the goal": (
        lambda: plan(*together("web@w0", "web@w1"), goals=["min(capacity_min) >= 150 req/s"]), {"capacity/web"},
    ),
    "batches without an order between them": (lambda: plan(*lane("web@w0"), *lane("web@w1"), *lane("web@w2")), {"capacity/web"}),
    "two batches that need not wait for the lane's end": (
        # each leaves when the one before has begun to be installed: all three may be out
        lambda: plan(*lane("web@w0"), *lane("web@w1", ["web@w0/out"]), *lane("web@w2", ["web@w1/out"])), {"capacity/web"},
    ),
    "the only primary is stopped": (lambda: plan(*lane("sql@s0", version=None)), {"capacity/sql"}),
    "a lock where a goal allows none": (
        lambda: plan(step("expand", "sql", slow=[["sql@s0", 0]], end=[["schema", "sql", "8"]]), goals=["max(downtime_s) <= 0 s"]),
        {"declared-outage/sql"},
    ),
    "a slowdown below the demand": (lambda: plan(step("backfill", "sql", slow=[["sql@s0", 0.4]])), {"capacity/sql"}),
    "failures leak away batch by batch": (lambda: plan(*one_by_one(*WEB, limit=1)), {"failures/web"}),
    "no judge at all, and the next goes anyway": (
        lambda: plan(*lane("web@w0"), *lane("web@w1", ["web@w0/start"]), *lane("web@w2", ["web@w1/start"])), {"failures/web"},
    ),
    "a majority is out": (lambda: plan(*together("keys@k0", "keys@k1", version=None)), {"capacity/keys", "quorum/keys"}),  # serves nothing
    "the leader goes first": (lambda: plan(*one_by_one("jobs@e0", "jobs@e1", version=None)), {"leaders/jobs"}),
    "the lead is handed to who leaves next": (
        lambda: plan(
            step("hand", "sql@s0", begin=[["lead", "sql", None]], end=[["lead", "sql", "sql@s1"]]),
            *lane("sql@s0", ["hand"], None), *lane("sql@s1", ["sql@s0/start"], None),
        ),
        {"leaders/sql", "capacity/sql"},  # nobody took the lead over from s1: that is an outage too
    ),
    "more failovers than the goal allows": (
        lambda: plan(*one_by_one("jobs@e1", "jobs@e0", version=None), goals=["max(failovers) <= 0"]), {"failovers/leads"},
    ),
    "two steps bring two versions in no order": (
        lambda: plan(
            step("a", "web@w0", end=[["version", "web@w0", "2"]]), step("b", "web@w0", end=[["version", "web@w0", "3"]]),
            environment=services(web={"accepts": {}}),
        ),
        {"writers/web@w0"},
    ),
    "two migrations in no order": (
        lambda: plan(step("a", "sql", end=[["schema", "sql", "8"]]), step("b", "sql", end=[["schema", "sql", "9"]])), {"writers/sql"},
    ),
    "a caller starts before what it needs": (
        lambda: plan(
            step("up/web", "web@w0", end=[["serve", "web@w0"]]), step("up/mid", "mid@m0", end=[["serve", "mid@m0"]]),
            *(step(f"up/{i}", i, end=[["serve", i]]) for i in ("sql@s0", "keys@k0", "keys@k1")),
            Step.model_validate({"id": "open", "needs": ["up/web", "up/mid", "up/sql@s0", "up/keys@k0", "up/keys@k1"], "end": [["open"]]}),
            start={"out": [*WEB, *MID, "sql@s0", "sql@s1", "keys@k0", "keys@k1", "keys@k2"], "absent": ["web@new"], "live": False,
                   "leaders": {"sql": "sql@s0"}},
        ),
        {"dependencies/web-mid", "dependencies/mid-sql", "dependencies/mid-keys"},
    ),
    "code on a machine that is not there yet": (
        lambda: plan(*surge("install")), {"prerequisites/web@new", "writers/web@new"},  # its start has no order with the allocation
    ),
    "code before its prerequisites": (
        lambda: plan(
            step("new/allocate", "web@new", on="", end=[["out", "web@new"]]),
            step("new/install", "web@new", needs=["new/allocate"], end=[["version", "web@new", "2"]]),
            step("new/prerequisites", "web@new", needs=["new/allocate"]),
            step("new/start", "web@new", needs=["new/install", "new/prerequisites"], end=[["serve", "web@new"]]),
        ),
        {"prerequisites/web@new"},
    ),
    "the callee changes first and the old caller does not accept it": (lambda: plan(*one_by_one(*MID)), {"versions/web-mid"}),
    "the schema contracts while old code serves": (
        lambda: plan(
            step("contract", "sql", end=[["schema", "sql", "8"]]), environment=services(mid={"accepts": {"1": {"sql": ["7"]}}}),
        ),
        {"versions/mid-sql"},
    ),
    "both monitors at once": (lambda: plan(*together("watch@o0", "watch@o1", version=None)), {"monitoring/watch"}),
    "a machine that nobody observes is changed": (
        lambda: plan(*one_by_one("jobs@e1", version=None), environment=services(watch={"observes": ["web"]})), {"observed/e1"},
    ),
    "no backup before what cannot be undone": (
        lambda: plan(step("contract", "sql", end=[["schema", "sql", "8"]], no_return=True)), {"recovery-point/sql"},
    ),
    "the backup may come too late": (
        lambda: plan(step("backup", "sql", end=[["point", "sql"]]), step("contract", "sql", end=[["schema", "sql", "8"]], no_return=True)),
        {"recovery-point/sql"},
    ),
    "a lane without a way back": (
        lambda: plan(*one_by_one(*WEB), *rollback(*WEB, skip=["web@w1"]), on_abort="rollback"),
        {f"undo/web@w1/{a}" for a in ("out", "install", "start")} | {"rollback-restored/web@w1"},  # and so it stays new, or out
    ),
    "a rollback that takes all back at once": (
        lambda: plan(*one_by_one(*WEB), *rollback(*WEB, batches=3), on_abort="rollback"), {"rollback-capacity/web"},
    ),
    "a rollback that brings another version": (
        lambda: plan(
            *one_by_one(*WEB), *other_version(rollback(*WEB), "half/web@w0/install"),
            on_abort="rollback",
        ),
        {"rollback-restored/web@w0"},
    ),
    "a target that is not there": (lambda: plan(step("look", "wbe@w0", on="")), {"targets/look"}),
    "a step that touches another batch": (
        lambda: plan(step("out", "web@w0", begin=[["out", "web@w1"]], end=[["serve", "web@w1"]])), {"batches/out"},
    ),
    "a lane that no judge counts": (
        lambda: plan(*one_by_one("web@w0"), *lane("web@w1", ["judge-web-0"])), {"batches/web@w1/out"},
    ),
    "a command without a check": (lambda: plan(step("x", "web@w0", check=[])), {"checks/x"}),
    "a secret in a command": (lambda: plan(step("x", "web@w0", run=SECRET)), {"secrets/x"}),
    "a password in a URL": (lambda: plan(step("x", "web@w0", check=["psql", "postgres://app:s3cr3t@db/app"])), {"secrets/x"}),
    "a header with a token": (
        lambda: plan(step("x", "web@w0", run=["curl", "-H", "Authorization: Bearer 0123abcd", "https://db/"], check=["true"])),
        {"secrets/x"},
    ),
    "an instance that stays out": (lambda: plan(*lane("web@w0")[:2]), {"left-out/web"}),
    "started behind a health check, and nobody waits": (
        lambda: plan(
            *lane("web@w0")[:2], step("up", "web@w0", needs=["web@w0/install"], end=[["start", "web@w0"]]),
            environment=services(web={"health_check": {"interval": "2 s"}}),
        ),
        {"left-out/web"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plan_is_caught_by_what_it_breaks(fault):
    build, wanted = BROKEN[fault]

    assert wanted == errors(build())


def test_every_invariant_has_a_plan_that_breaks_it():
    caught = {name.removeprefix("rollback-").partition("/")[0].replace("-", "_") for _, wanted in BROKEN.values() for name in wanted}
    noted = {"machine_lost", "zone_lost"}  # notes unless a goal forbids them: below

    assert {i.name for i in INVARIANTS} == (caught - {"declared_outage"}) | noted
    assert len(BROKEN) >= 25


def test_each_finding_has_a_cure_and_what_can_be_shown_a_witness():
    for build, _ in BROKEN.values():
        for finding in vet(build()).findings:
            assert finding.cure and finding.message
            by_reading = finding.invariant in ("targets", "checks", "by-hand", "secrets", "failovers")
            assert by_reading == (finding.witness is None), finding.id


# what is a note, and what a goal makes of it --------------------------------------------------------------------------

TIGHT = {"demand": {"rate": "150 req/s"}}


def test_one_more_loss_is_a_note_unless_a_goal_forbids_it():
    """Three boxes of 100 req/s carry 150 with one lost, two do not; before the plan the loss was borne."""
    tight = plan(*one_by_one(*WEB), environment=TIGHT)

    assert {"machine-lost/w0", "zone-lost/a"} == notes(tight) and set() == errors(tight)
    assert {"machine-lost/w0"} == errors(plan(*one_by_one(*WEB), environment=TIGHT, goals=["max(single_fault_s) <= 0 s"]))


def test_a_declared_lock_is_a_note():
    locked = plan(step("expand", "sql", slow=[["sql@s0", 0]], end=[["schema", "sql", "8"]]))

    assert {"declared-outage/sql"} == notes(locked) and set() == errors(locked)


def test_a_switchover_is_a_note_and_who_has_no_lead_any_more_may_leave():
    hand = step("hand", "sql@s0", begin=[["lead", "sql", None]], end=[["lead", "sql", "sql@s1"]])
    first, *others = lane("sql@s0", (), None)
    moved = plan(hand, first.model_copy(update={"needs": ("hand",)}), *others)

    assert {"declared-outage/sql", "machine-lost/s1"} == notes(moved)  # s1 alone has the data now: before the plan its loss was borne
    assert set() == errors(moved)


@pytest.mark.parametrize("begin", [[], [["lead", "sql", None]]])
def test_a_lead_that_could_not_be_handed_over_is_replayed(begin):
    hand = step("hand", "sql@s0", begin=begin, end=[["lead", "sql", "sql@s1"]])
    moved = plan(hand, *lane("sql@s0", ["hand"], None))
    [finding] = [f for f in vet(moved).findings if f.severity == "error"]

    assert finding.id == "failures/sql" and finding.witness is not None and finding.witness.failed == ("hand",)
    assert replay(moved, finding).capacity_per_s == 0.0


def test_what_was_there_before_is_accepted_once_and_found_never():
    [accepted] = vet(plan(*one_by_one(*WEB))).accepted

    assert "s0 (sql)" in accepted
    assert not any("s0" in name for name in notes(plan(*one_by_one(*WEB), environment=TIGHT)))


def test_dark_monitoring_is_a_note_where_a_goal_allows_it():
    dark = plan(*together("watch@o0", "watch@o1", version=None), goals=["max(blind_s) <= 5 min"])

    assert {"monitoring/watch"} == notes(dark) and set() == errors(dark)
