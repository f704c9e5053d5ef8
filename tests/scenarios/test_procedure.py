"""Procedures: what a person writes as steps becomes the plan that it says, and what cannot be meant is refused with its place."""

# ruff: noqa: E501 (a list of mistakes reads better in wide rows)
from __future__ import annotations

import pytest

from simdeploy.errors import FileError
from simdeploy.plan.plan import Crash, Plan
from simdeploy.planning.kinds import build_plans
from simdeploy.planning.loading import load_scenario
from tests.builders import run

ENVIRONMENT = """
name: small
machines: [{name: web1}, {name: web2}, {name: sql1}, {name: sql2}]
entry: web
demand: {rate: 100 req/s}
services:
  web: {on: [web1, web2], capacity: 80 req/s, calls: {sql: 1}}
  sql: {role: datastore, on: [sql1, sql2], capacity: 200 req/s, store: {copies: [{kind: backup, every: 1 h, takes: 0 s, begins_at: 00:00}]}}
"""


@pytest.fixture
def procedures(tmp_path):
    """Strategy -> plan of a procedure in the environment above."""

    def build(strategies, more=""):
        (tmp_path / "env.yaml").write_text(ENVIRONMENT)
        (tmp_path / "it.yaml").write_text(f"scenario: procedure\nenvironment: env.yaml\n{more}\nstrategies: {strategies}\n")
        return build_plans(load_scenario(tmp_path / "it.yaml"))

    return build


def steps(*listed):
    return "{it: {steps: [" + ", ".join(listed) + "]}}"


def test_the_runbook_of_the_page_takes_what_stands_below_it(procedures):
    """A page of 90 s in the mean, two steps side by side of 300 and 600 s, one that waits for both; SQL is gone for 1,200 s."""
    [plan] = procedures(
        steps(
            "{do: page, takes: {uniform: [1 min, 2 min]}}",
            "{do: read only, of: web, takes: 5 min, slow: {web: 50 %}}",
            "{do: look, id: look-1, takes: 10 min, needs: [page]}",
            "{do: all is well, needs: [read-only, look-1], end: [validated]}",
        ),
        "disaster: 0 s\ncrashes: [{machine: sql1, at: 0 s, for: 20 min}]\nhorizon: 30 min",
    ).values()

    found = run(plan, 200)

    assert 690 == plan.critical_path_s()
    assert all(660 <= s <= 720 for s in found["makespan_s"])
    assert {1200} == set(found["downtime_s"]) == set(found["rto_s"])
    assert (Crash(machine="sql1", at_s=0.0, for_s=1200.0),) == plan.crashes


def test_steps_go_one_after_the_other_unless_they_say_otherwise(procedures):
    [plan] = procedures(
        steps(
            "{do: a, takes: 10 s}",
            "{do: b, takes: 10 s}",
            "{do: c, takes: 7 s, needs: []}",
            "{do: d, takes: 1 s, after: [b, c]}",
            "{do: e, takes: 2 s}",
        )
    ).values()

    assert [(), ("a",), (), (), ("d",)] == [tuple(n.rsplit("/")[-1] for n in s.needs) for s in plan.steps]
    assert 10 + 10 + 1 + 2 == run(plan)["makespan_s"][0]
    assert ("procedure/desk/b", "procedure/desk/c") == plan.steps[3].after


def test_a_verb_by_itself_acts_on_what_its_step_is_about_and_a_service_stands_for_its_instances(procedures):
    short = steps(
        "{do: reboot, of: web@web1, takes: 60 s, begin: [out], end: [serve, validated]}",
        "{do: stop, of: web, takes: 5 s, begin: [kill], end: [serve], slow: {sql: 50 %}}",
    )
    long = steps(
        "{do: reboot, of: web@web1, takes: 60 s, begin: [[out, web@web1]], end: [[serve, web@web1], [validated]]}",
        "{do: stop, of: web, takes: 5 s, begin: [[kill, web@web1], [kill, web@web2]], end: [[serve, web@web1], [serve, web@web2]], slow: {sql@sql1: 0.5, sql@sql2: 0.5}}",
    )
    [one], [other] = procedures(short).values(), procedures(long).values()

    assert one == other
    assert (60 * 20 + 5 * 100, 5) == tuple(run(one)[m][0] for m in ("failed_requests", "downtime_s"))


def test_a_failed_step_leaves_out_what_needs_it_and_not_what_comes_after_it(procedures):
    [plan] = procedures(
        steps(
            "{do: stop, of: web@web1, takes: 10 s, begin: [out], p_fail: 100 %, retries: 2, retry_delay: 5 s}",
            "{do: start, of: web@web1, takes: 10 s, end: [serve]}",
            "{do: tell, takes: 100 s, after: [stop]}",
        )
    ).values()
    found = {m: values[0] for m, values in run(plan).items()}

    assert (1, 1, 3 * 10 + 2 * 5 + 100) == (found["out_at_end"], found["steps_failed"], found["makespan_s"])


def test_who_is_not_there_comes_with_the_step_that_lets_it_serve(procedures):
    [plan] = procedures(
        "{it: {without: [web@web2], steps: [{do: build, of: web@web2, takes: 30 s, end: [serve]}]}}", "horizon: 60 s"
    ).values()

    assert 30 * (100 - 80) == run(plan)["failed_requests"][0]


def test_a_rewind_names_a_step_as_the_file_calls_it_and_forks_bound_what_runs(procedures):
    [plan] = procedures(
        steps(
            "{do: contract it, of: sql, takes: 20 s, needs: []}",
            "{do: look, takes: 20 s, needs: []}",
            "{do: restore, of: sql, needs: [contract-it], begin: [[out, sql@sql1]], takes: 10 s, end: [[rewind, sql, contract-it], [serve, sql@sql1]]}",
        ),
        "forks: 1\nstarts_at: 00:10",
    ).values()
    found = {m: values[0] for m, values in run(plan).items()}

    assert ("rewind", "sql", "procedure/sql/contract-it") == plan.steps[2].end[0]
    assert 20 + 20 + 10 == found["makespan_s"]
    assert Plan.from_json(plan.to_json()) == plan


def test_rivals_with_the_same_step_meet_the_same_luck(procedures):
    page = "{do: page, takes: {uniform: [1 min, 2 min]}}"
    plans = procedures(f"{{a: {{steps: [{page}]}}, b: {{steps: [{page}, {{do: look, takes: 100 s}}]}}}}")

    a, b = (run(plans[name], 50)["makespan_s"] for name in ("a", "b"))

    assert pytest.approx(50 * [100]) == (b - a).tolist()


WRONG = [
    ("twice", steps("{do: a}", "{do: a}"), "", "two steps are called 'a'; give this one an id"),
    ("nameless", steps("{do: '???'}"), "", "no letter or digit that could name the step; add an id"),
    ("needs", steps("{do: look}", "{do: b, needs: [lock]}"), "", "'lock' is no step of this strategy; did you mean 'look'"),
    ("after", steps("{do: look}", "{do: b, after: [lock]}"), "", "'lock' is no step of this strategy; did you mean 'look'"),
    ("loop", steps("{do: a, needs: [b]}", "{do: b, needs: [a]}"), "", "wait for each other"),
    ("of", steps("{do: a, of: web@web3}"), "", "'web@web3' is neither a service nor an instance; did you mean"),
    ("slow", steps("{do: a, slow: {wab: 0 %}}"), "", "'wab' is neither a service nor an instance; did you mean 'web'"),
    ("on", steps("{do: a, on: web3}"), "", "runs on 'web3', which is no machine; did you mean 'web"),
    ("verb", steps("{do: a, of: web, begin: [stop]}"), "", "is no effect; the verbs are"),
    ("of-nothing", steps("{do: a, begin: [kill]}"), "", "wrong number of arguments; it reads .kill instance"),
    ("instance", steps("{do: a}", "{do: b, begin: [[kill, web@web3]]}"), "", "names 'web@web3', which is no instance"),
    ("service", steps("{do: a, end: [[restore, sqll]]}"), "", "names 'sqll', which is no service; did you mean 'sql'"),
    ("role", steps("{do: a, of: web, end: [restore]}"), "", "is on 'web', which is stateless; it takes a datastore"),
    ("rewound", steps("{do: a, end: [[rewind, sql, b]]}"), "", "names 'b', which is no step"),
    ("text", steps("{do: a, begin: kill}"), "", "must be a list"),
    ("no-steps", "{it: {steps: []}}", "", "steps: \\[\\] is empty"),
    ("crash", steps("{do: a}"), "crashes: [{machine: web3, at: 0 s}]", "'web3' is to crash and is no machine; did you mean 'web"),
    ("crash-at", steps("{do: a}"), "crashes: [{machine: web1, at: 5}]", "5 has no unit"),
    ("without", "{it: {without: [web@web3], steps: [{do: a}]}}", "", "names 'web@web3', which is no instance"),
    ("effects-of-nobody", steps("{do: a, begin: [[kill]]}"), "", "wrong number of arguments"),
    ("list", steps("[kill, web@web1]"), "", "must be a mapping"),
    ("leader", steps("{do: a, end: [[lead, sql, web@web1]]}"), "", "lets 'web@web1' lead 'sql', of which it is no instance; there are sql@sql1, sql@sql2"),
]  # fmt: skip


@pytest.mark.parametrize(("strategies", "more", "says"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_what_cannot_be_meant_is_refused_with_its_place(procedures, strategies, more, says):
    with pytest.raises(FileError, match=says) as error:
        procedures(strategies, more)

    assert 1 == len(error.value.faults), str(error.value)
    fault = error.value.faults[0]
    assert fault.file.endswith("it.yaml") and fault.line >= 3 and (fault.column > 1 or says == "wait for each other")


def test_each_of_two_equal_mistakes_has_its_own_place(procedures):
    with pytest.raises(FileError, match="is to crash and is no machine") as error:
        procedures(steps("{do: a}"), "crashes:\n  - {machine: web3, at: 0 s}\n  - {machine: web3, at: 5 s}")

    first, second = error.value.faults
    assert (first.line + 1, first.message) == (second.line, second.message)
