"""Bad releases, forward rounds and the way back, with pencil numbers: what they fail, how long they take, how they end."""

from __future__ import annotations

import json
import math
import pathlib
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from simdeploy.environment.durations import fixed
from simdeploy.errors import PlanError
from simdeploy.plan.following import measure
from simdeploy.plan.plan import Crash, Plan, Release
from simdeploy.plan.steps import Gate, Judge, Step
from simdeploy.simulation.outcome import trace
from tests.builders import assert_legal, farm, run, undoable_plans

ROOT = pathlib.Path(__file__).parents[2]
MANY = 4000


def wait(name: str, seconds: float, *needs: str, **fields: Any) -> Step:
    return Step(id=name, duration=fixed(seconds), needs=needs, **fields)


def brings(name: str, version: str, *needs: str, instance: str = "web@w0", seconds: float = 60.0, **fields: Any) -> Step:
    """Out for *seconds*, then it serves this version."""
    effects = {"begin": (("drain", instance),), "end": (("version", instance, version), ("serve", instance))}
    return wait(name, seconds, *needs, target=instance, on=instance.split("@")[1], **effects, **fields)


def gate(name: str, *needs: str, seconds: float = 30.0, **fields: Any) -> Step:
    rule = {k: fields.pop(k) for k in ("sensitivity", "false_alarms", "reaction") if k in fields}
    return wait(name, seconds, *needs, kind="gate", gate=Gate(**rule), **fields)


def fix(round_: int = 1, **fields: Any) -> dict[str, Any]:
    return {"section": "forward", "round": round_, **fields}


def found(*steps: Step, count: int = 2, demand: float = 90.0, **fields: Any) -> dict[str, float]:
    """Every metric of the only run, on *count* boxes of 100 req/s."""
    return {m: v[0] for m, v in run(Plan(environment=farm(count, 100.0, demand), steps=steps, **fields)).items()}


def ends(values: dict[str, float]) -> str:
    return next(o for o in ("success", "partial", "rolled_back", "halted", "stuck") if values[o])


# forward rounds ------------------------------------------------------------------------------------------------------


def example() -> Plan:
    """The plan by hand of docs/model.md with the fix that stands below it."""
    page = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    plan, steps = re.findall(r"```json\n(.*?)```", page.partition("### A plan by hand")[2], flags=re.S)
    plan, forward = json.loads(plan), json.loads(f"[{steps}]")
    install, look, back = plan["steps"]
    look["gate"]["reaction"] = "forward"
    plan["release"]["p_bad_fix"] = 0.2
    plan["steps"] = [install, look, *forward, back | {"done": ["fix/web@a/install"]}]
    return Plan.from_json(json.dumps(plan))


def test_the_example_of_the_docs_gives_the_numbers_that_stand_below_it():
    values = run(example(), MANY)
    good, bad = values["success"] == 1, values["rolled_back"] == 1

    assert (good | bad).all()
    assert abs(bad.mean() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / MANY)
    for runs, expected in (
        (good, {"makespan_s": 160, "forward_s": 70, "rollback_s": 0, "failed_requests": 135}),
        (bad, {"makespan_s": 200, "forward_s": 70, "rollback_s": 40, "failed_requests": 270}),
    ):
        assert expected == {m: pytest.approx(values[m][runs].mean()) for m in expected}
        assert all(np.ptp(values[m][runs]) < 1e-6 for m in expected)
    assert np.allclose(values["failed_requests"], values["bad_release_requests"])


def test_going_forward_lets_attempts_end_and_lets_none_begin():
    """The gate says no at 30 s; a step of 50 s runs on, fails, and is not tried again; what waits for the gate never begins."""
    steps = (
        gate("gate", false_alarms=1.0, reaction="forward"),
        wait("other", 50.0, p_fail=1.0, retries=3),
        wait("later", 10.0, "gate"),
        wait("fix", 20.0, **fix()),
    )
    plan = Plan(environment=farm(2, 100.0, 90.0), steps=steps)

    assert [(0, "gate"), (0, "other"), (50, "fix")] == [(r.at_s, r.subject) for r in trace(plan) if r.kind == "began"]
    assert [(30, "gate", "forward")] == [(r.at_s, r.subject, r.value) for r in trace(plan) if r.kind == "aborted"]
    values = found(*steps)
    assert ("success", 70, 40) == (ends(values), values["makespan_s"], values["forward_s"])


def test_rounds_follow_each_other_and_the_last_one_rolls_back():
    """Gates of 30 s at 30, 70 and 110 s say no; each fix takes 10 s, the rollback 5 s."""
    steps = (
        gate("gate0", false_alarms=1.0, reaction="forward"),
        *(wait("fix1", 10.0, **fix(1)), gate("gate1", "fix1", false_alarms=1.0, reaction="forward", **fix(1))),
        *(wait("fix2", 10.0, **fix(2)), gate("gate2", "fix2", false_alarms=1.0, reaction="rollback", **fix(2))),
        wait("undo", 5.0, section="rollback"),
    )

    values = found(*steps)

    assert ("rolled_back", 115, 80, 5) == (ends(values), values["makespan_s"], values["forward_s"], values["rollback_s"])
    assert 115 == Plan(environment=farm(2, 100.0, 90.0), steps=steps).critical_path_s()


def test_a_fix_that_is_not_needed_is_not_made():
    steps = (gate("gate", false_alarms=0.0, reaction="forward"), wait("fix", 20.0, **fix()))

    values = found(*steps)

    assert ("success", 30, 0) == (ends(values), values["makespan_s"], values["forward_s"])


@pytest.mark.parametrize(("p_fail", "outcome"), [(0.0, "success"), (1.0, "partial")])
def test_a_failure_of_a_round_makes_its_end_partial_and_one_of_the_main_section_does_not(p_fail, outcome):
    steps = (
        wait("main", 10.0, p_fail=1.0),
        gate("gate", false_alarms=1.0, reaction="forward"),
        wait("fix", 20.0, p_fail=p_fail, **fix()),
        Step(id="judge", kind="judge", after=("fix",), judge=Judge(watch=("fix",), size=1, limit=1, of="plan"), **fix()),
    )

    assert outcome == ends(found(*steps, on_abort="rollback"))  # 2 failures in all would be more than the judge bears


@pytest.mark.parametrize(("on_abort", "outcome"), [("rollback", "rolled_back"), ("halt", "halted")])
def test_a_fatal_failure_of_a_round_aborts_as_the_plan_says(on_abort, outcome):
    steps = (
        gate("gate", false_alarms=1.0, reaction="forward"),
        wait("fix", 20.0, p_fail=1.0, fatal=True, **fix()),
        wait("undo", 5.0, section="rollback"),
    )

    values = found(*steps, on_abort=on_abort)

    assert (outcome, 20) == (ends(values), values["forward_s"])


def test_a_rollback_halts_where_it_fails_itself():
    """Its first step fails for good at 15 s; what has begun ends at 30 s, and nothing else begins."""
    steps = (
        wait("fails", 10.0, p_fail=1.0, fatal=True),
        *(wait("undo1", 5.0, p_fail=1.0, fatal=True, section="rollback"), wait("undo2", 20.0, section="rollback")),
        Step(id="undo3", section="rollback", after=("undo1", "undo2"), duration=fixed(10.0)),
    )
    plan = Plan(environment=farm(2, 100.0, 90.0), steps=steps, on_abort="rollback")

    told = trace(plan)

    assert [(10, "fails", "rollback"), (15, "undo1", "halt")] == [(r.at_s, r.subject, r.value) for r in told if r.kind == "aborted"]
    assert ["undo1", "undo2"] == [r.subject for r in told if r.kind == "began" and r.subject != "fails"]
    assert ("halted", 20) == (told.outcome, run(plan)["rollback_s"][0])


@pytest.mark.parametrize(("awaited", "since_s", "reaction"), [(True, 600, "rollback"), (False, 30, "rollback"), (False, 30, "halt")])
def test_an_abort_waits_for_the_other_gates_unless_they_are_not_awaited(awaited, since_s, reaction):
    """One says no at 30 s while another one looks on w1 until 600 s and would then be tried again; an undo takes 10 s."""
    steps = (
        gate("fast", false_alarms=1.0, reaction=reaction),
        gate("slow", seconds=600.0, awaited=awaited, on="w1", p_fail=0.5, retries=1, retry_delay=fixed(5.0)),
        wait("undo", 10.0, section="rollback"),
    )
    plan = Plan(environment=farm(2, 100.0, 90.0), steps=steps, horizon_s=1000.0)

    told = trace(plan)
    assert_legal(plan, told)
    assert since_s + (10 if reaction == "rollback" else 0) == max(r.at_s for r in told)
    assert ("slow", "skipped") in [(r.subject, r.value) for r in told if r.kind == "ended"] or awaited
    assert measure(plan, told).values == {m: pytest.approx(v[0], nan_ok=True) if v[0] == v[0] else None for m, v in run(plan).items()}


def test_a_gate_that_would_end_with_the_abort_is_not_asked():
    """Both end at 30 s, the first of the plan says no: the other one is cut short, whatever it would have said."""
    steps = (gate("first", false_alarms=1.0, reaction="halt"), gate("second", false_alarms=1.0, awaited=False))

    told = trace(Plan(environment=farm(2, 100.0, 90.0), steps=steps))

    assert [("first", "failed"), ("second", "skipped")] == [(r.subject, r.value) for r in told if r.kind == "ended"]


@pytest.mark.parametrize("after_crash", ["retry", "abort"])
def test_what_is_to_begin_on_a_dead_machine_waits_for_it_whatever_after_crash_says(after_crash):
    """w1 dies at 50 s, while nothing runs on it, and is back at 500 s; a step on it is to begin at 100 s."""
    steps = (wait("before", 100.0), wait("there", 20.0, "before", on="w1"), wait("then", 5.0, "there"))

    values = found(*steps, crashes=(Crash(machine="w1", at_s=50.0, for_s=450.0),), after_crash=after_crash)

    assert ("success", 525) == (ends(values), values["makespan_s"])


@pytest.mark.parametrize(("reaction", "outcome"), [("rollback", "halted"), ("forward", "success")])
def test_past_the_point_of_no_return_there_is_no_way_back_but_one_forward(reaction, outcome):
    steps = (
        wait("contract", 10.0, no_return=True),
        gate("gate", "contract", false_alarms=1.0, reaction=reaction),
        wait("fix", 20.0, **fix()),
        wait("undo", 5.0, section="rollback"),
    )

    assert outcome == ends(found(*steps))


def test_a_point_of_no_return_of_a_round_counts_as_one_of_the_main_section():
    steps = (
        gate("gate", false_alarms=1.0, reaction="forward"),
        *(wait("fix", 20.0, no_return=True, **fix()), gate("again", "fix", false_alarms=1.0, **fix())),
        wait("undo", 5.0, section="rollback"),
    )

    assert "halted" == ends(found(*steps))


@pytest.mark.parametrize(("false_alarms", "undone"), [(0.0, "undo-main"), (1.0, "undo-fix")])
def test_a_rollback_finds_who_touched_an_instance_last(false_alarms, undone):
    steps = (
        brings("main", "2"),
        gate("gate", "main", false_alarms=false_alarms, reaction="forward"),
        wait("last", 10.0, "gate", p_fail=1.0, fatal=True),
        *(brings("fix", "3", **fix()), gate("again", "fix", false_alarms=1.0, **fix())),
        brings("undo-main", "1", section="rollback", began=("main",), unbegun=("fix",)),
        brings("undo-fix", "1", section="rollback", began=("fix",)),
    )

    told = trace(Plan(environment=farm(2, 100.0, 90.0), steps=steps, on_abort="rollback"))

    assert [undone] == [r.subject for r in told if r.kind == "began" and r.subject.startswith("undo")]
    assert "rolled_back" == told.outcome


def test_a_round_is_guarded_by_the_main_section_and_by_the_rounds_before_it():
    steps = (
        wait("done", 10.0),
        wait("failed", 10.0, p_fail=1.0),
        *(gate("gate0", "done", false_alarms=1.0, reaction="forward"), wait("never", 10.0, "gate0")),
        *(wait(f"fix1-{name}", 10.0, done=(name,), **fix(1)) for name in ("done", "failed")),
        *(wait(f"fix1-un-{name}", 10.0, unbegun=(name,), **fix(1)) for name in ("failed", "never")),
        gate("gate1", false_alarms=1.0, reaction="forward", **fix(1)),
        *(wait(f"fix2-{name}", 10.0, began=(f"fix1-{name}",), **fix(2)) for name in ("done", "failed")),
    )

    told = trace(Plan(environment=farm(2, 100.0, 90.0), steps=steps))

    assert ["fix1-done", "fix1-un-never", "gate1", "fix2-done"] == [
        r.subject for r in told if r.kind == "began" and r.subject not in ("done", "failed", "gate0")
    ]


def test_a_rollback_that_is_stuck_lasts_to_the_horizon():
    steps = (wait("fails", 10.0, p_fail=1.0, fatal=True), wait("undo", 5.0, section="rollback", on="w0"))
    plan = Plan(
        environment=farm(2, 100.0, 90.0), steps=steps, on_abort="rollback", horizon_s=100.0, crashes=(Crash(machine="w0", at_s=5.0),)
    )

    values = run(plan)

    assert (1, 90) == (values["stuck"][0], values["rollback_s"][0])
    assert 90 == measure(plan, trace(plan)).values["rollback_s"]


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((gate("g", reaction="forward"),), ["'g'", "names a round that is not there", "round 1"]),
        ((wait("f", 1.0, **fix()), gate("g", reaction="forward", **fix())), ["'g'", "not there", "round 2"]),
        ((wait("f", 1.0, **fix()), gate("g", reaction="forward", section="rollback")), ["'g'", "not there", "a rollback has none"]),
        ((wait("f", 1.0, **fix(2)),), ["round 2 has steps and round 1 has none"]),
        ((wait("m", 1.0, round=2),), ["'m'", "has round 2", "only a forward step"]),
        ((wait("m", 1.0), wait("f", 1.0, "m", **fix())), ["'f'", "main step 'm' under needs", "takes forward (round 1) steps"]),
        ((wait("f", 1.0, **fix()), wait("h", 1.0, "f", **fix(2))), ["forward (round 2) step 'h'", "'f' under needs"]),
        ((wait("f", 1.0, **fix()), wait("h", 1.0, done=("f",), **fix())), ["'h'", "'f' under done", "takes earlier steps"]),
        ((wait("u", 1.0, section="rollback"), wait("f", 1.0, unbegun=("u",), **fix())), ["'f'", "'u' under unbegun", "takes earlier"]),
        ((wait("m", 1.0), wait("n", 1.0, unbegun=("m",))), ["'n' is a main step with a guard", "unbegun"]),
        ((brings("m", "2", awaited=False),), ["'m' changes something as soon as it begins", "`awaited`"]),
    ],
)
def test_steps_that_form_no_rounds_are_refused_by_name(steps, words):
    with pytest.raises(PlanError) as error:
        Plan(environment=farm(2, 100.0, 90.0), steps=steps)

    assert all(word in str(error.value) for word in words), str(error.value)


# bad versions --------------------------------------------------------------------------------------------------------


def test_only_what_serves_a_bad_version_fails():
    """Three boxes at 90 req/s: one is left at 1, one at the bad 2, one gets the good 3; half of what 2 serves fails."""
    steps = (
        brings("two", "2", instance="web@w0"),
        brings("also", "2", instance="web@w1"),
        gate("gate", "two", "also", seconds=0.0, sensitivity=1.0, reaction="forward"),
        brings("three", "3", instance="web@w1", **fix()),
    )

    values = found(*steps, count=3, release=Release(p_bad=1.0, error_share=0.5), horizon_s=220.0)

    # at 60 s w0 serves 2 while w1 is out; from 120 to 220 s one of three boxes serves it
    assert pytest.approx(90 * 60 / 2 * 0.5 + 90 * 100 / 3 * 0.5) == values["failed_requests"] == values["bad_release_requests"]


def test_a_gate_sees_no_bad_version_once_all_are_fixed():
    steps = (
        brings("two", "2"),
        gate("gate", "two", sensitivity=1.0, reaction="forward"),
        *(brings("three", "3", **fix()), gate("again", "three", sensitivity=1.0, **fix())),
    )

    assert "success" == ends(found(*steps, release=Release(p_bad=1.0, error_share=0.5)))


def test_what_is_brought_again_is_as_bad_as_before_and_the_old_version_is_good():
    def spoilt(version: str, **release: float) -> float:
        steps = (
            brings("two", "2"),
            gate("gate", "two", sensitivity=0.0, false_alarms=1.0, reaction="forward"),
            brings("again", version, **fix()),
        )
        return found(*steps, release=Release(error_share=0.5, **release), horizon_s=250.0)["bad_release_requests"]

    assert 0 == spoilt("2", p_bad=0.0, p_bad_fix=1.0)  # a fix in name only
    assert 0 == spoilt("1", p_bad=0.0, p_bad_fix=1.0)
    assert pytest.approx(90 * 100 * 0.5 * 0.5) == spoilt("3", p_bad=0.0, p_bad_fix=1.0)  # 150 to 250 s, one box of two
    assert pytest.approx(90 * 190 * 0.5 * 0.5) == spoilt("3", p_bad=1.0, p_bad_fix=0.0)  # 60 to 250 s


def test_a_rollback_to_a_bad_version_brings_its_errors_back():
    """2 is bad and unnoticed from 60 s; 3 replaces it from 90 to 150 s and serves to 180 s; 2 is back from 240 to 300 s."""
    steps = (
        brings("two", "2"),
        gate("gate", "two", sensitivity=0.0, reaction="halt"),
        brings("three", "3", "gate"),
        wait("look", 30.0, "three", p_fail=1.0, fatal=True),
        brings("back", "2", section="rollback"),
    )

    values = found(*steps, on_abort="rollback", release=Release(p_bad=1.0, error_share=0.5), horizon_s=300.0)

    # both versions are the main section's, so both are bad: 60 to 90, 150 to 180 and 240 to 300 s, one box of two
    assert pytest.approx(90 * 120 / 2 * 0.5) == values["bad_release_requests"]


def test_each_round_draws_anew_whether_its_fix_is_bad():
    """P(bad), P(first fix bad) and P(second fix bad) are independent: the shares of all eight cases, within four standard errors."""
    steps = (
        *(brings("two", "2", seconds=1.0), gate("g0", "two", seconds=0.0, reaction="forward")),
        *(brings("three", "3", seconds=1.0, **fix(1)), gate("g1", "three", seconds=0.0, reaction="forward", **fix(1))),
        *(brings("four", "4", seconds=1.0, **fix(2)), gate("g2", "four", seconds=0.0, reaction="halt", **fix(2))),
    )
    plan = Plan(environment=farm(2, 100.0, 90.0), steps=steps, release=Release(p_bad=0.5, p_bad_fix=0.3))

    values = run(plan, MANY)
    reached = [np.mean(values["makespan_s"] == s) for s in (1, 2, 3)]

    expected = [0.5, 0.5 * 0.7, 0.5 * 0.3]  # good at once; the first fix is good; a second one is needed
    for share, p in zip([*reached, np.mean(values["halted"])], [*expected, 0.5 * 0.3 * 0.3], strict=True):
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / MANY)


def test_what_would_have_failed_anyway_is_not_the_release_s():
    """At 100 req/s before one box of 80 with half of it spoilt, 50 fail each second, and 30 of them because of the release."""
    steps = (brings("two", "2", seconds=0.0), wait("serve", 100.0, "two"))
    plan = Plan(environment=farm(1, 80.0, 100.0), steps=steps, release=Release(p_bad=1.0, error_share=0.5))

    values = run(plan)

    assert (5000, 3000) == (values["failed_requests"][0], values["bad_release_requests"][0])


def test_with_a_queue_those_count_that_met_the_error():
    demand = farm(1, 80.0, 100.0).demand.model_copy(update={"excess": "queue", "patience_s": 1000.0})
    env = farm(1, 80.0, 100.0).model_copy(update={"demand": demand})
    steps = (brings("two", "2", seconds=0.0), wait("serve", 100.0, "two"))

    values = run(Plan(environment=env, steps=steps, release=Release(p_bad=1.0, error_share=0.5)))

    assert (5000, 5000) == (values["failed_requests"][0], values["bad_release_requests"][0])  # 50 req/s are left: none waits


@settings(max_examples=30)
@given(plan=undoable_plans())
def test_what_a_bad_release_fails_is_what_the_same_run_fails_beyond_one_without_its_errors(plan):
    harmless = plan.model_copy(update={"release": plan.release.model_copy(update={"error_share": 0.0})})

    spoilt, clean = run(plan, 6), run(harmless, 6)

    assert np.allclose(spoilt["bad_release_requests"], spoilt["failed_requests"] - clean["failed_requests"])
    assert 0 == clean["bad_release_requests"].max()
