"""What may start now: order, pools, judges, aborts and the change of section, played by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdeploy.environment.models import Environment
from simdeploy.plan.plan import Plan
from simdeploy.plan.progress import Progress, order
from simdeploy.plan.steps import Gate, Judge, Step

MACHINES = [f"w{k:02}" for k in range(1, 21)]
FARM = Environment.model_validate(
    {
        "name": "farm",
        "machines": [{"name": m} for m in MACHINES],
        "entry": "web",
        "services": {"web": {"on": MACHINES, "capacity_per_s": 10}},
        "demand": {"rate_per_s": 1},
    }
)


def plan(*steps: Step, **fields) -> Plan:
    return Plan(environment=FARM, steps=steps, **fields)


def step(name: str, *needs: str, **fields) -> Step:
    return Step(id=name, needs=needs, **fields)


def undo(name: str, *needs: str, **guards) -> Step:
    """A step of the rollback section."""
    return Step(id=name, needs=needs, section="rollback", **guards)


def judge(name: str, watch: tuple[str, ...], after: tuple[str, ...] | None = None, size: int | None = None, **rule) -> Step:
    return Step(id=name, kind="judge", after=watch if after is None else after, judge=Judge(watch=watch, size=size or len(watch), **rule))


def lane(target: str, after: tuple[str, ...] = (), **fields) -> tuple[Step, Step]:
    """out, back: two steps on one target, the second needs the first."""
    return (
        Step(id=f"{target}/out", target=f"web@{target}", after=after, **fields),
        Step(id=f"{target}/back", target=f"web@{target}", needs=(f"{target}/out",), **fields),
    )


class Desk:
    """Someone who executes a plan: `begin` says what starts now, `end` ends a step and says what starts then."""

    def __init__(self, plan: Plan) -> None:
        self.ids = [s.id for s in plan.steps]
        self.progress = Progress(order(plan))
        self.running: list[str] = []
        self.verdicts: dict[str, str] = {}

    def begin(self) -> list[str]:
        begun: list[str] = []
        while True:
            self.verdicts |= {self.ids[j]: verdict for j, verdict in self.progress.judged()}
            begun += [self.ids[i] for i in self.progress.started()]
            if not self.progress.has_verdicts():
                break
        self.running += begun
        return begun

    def end(self, *names: str, failed: bool = False) -> list[str]:
        """End steps that run, at one instant."""
        for name in names:
            self.running.remove(name)
            self.progress.ended(self.ids.index(name), "failed" if failed else "succeeded")
        return self.begin()

    def fail(self, *names: str) -> list[str]:
        return self.end(*names, failed=True)

    def play(self, failing: set[str]) -> list[str]:
        """Everything that begins until nothing is left, the oldest running step always ending first."""
        begun = self.begin()
        while self.running:
            begun += self.end(self.running[0], failed=self.running[0] in failing)
        return begun

    @property
    def outcome(self) -> str | None:
        return self.progress.outcome

    @property
    def results(self) -> dict[str, str | None]:
        return dict(zip(self.ids, self.progress.results, strict=True))


# Order ----------------------------------------------------------------------------------------------------------------


def test_a_chain_goes_one_by_one_and_a_fork_goes_together():
    desk = Desk(plan(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")))

    assert ["a"] == desk.begin()
    assert ["b", "c"] == desk.end("a")
    assert [] == desk.end("c")
    assert ["d"] == desk.end("b")
    assert [] == desk.end("d")
    assert "success" == desk.outcome


def test_a_plan_without_steps_has_succeeded():
    desk = Desk(plan())

    assert [] == desk.begin()
    assert "success" == desk.outcome


def test_what_needs_a_failed_step_is_skipped_and_what_comes_after_it_begins():
    desk = Desk(plan(step("a"), step("needs-a", "a"), step("after-a", after=("a",))))
    desk.begin()

    assert ["after-a"] == desk.fail("a")
    assert "skipped" == desk.results["needs-a"]


def test_skipping_goes_down_the_lane_and_after_takes_a_skipped_step_for_ended():
    desk = Desk(plan(step("a"), step("b", "a"), step("c", "b"), step("d", after=("c",))))
    desk.begin()

    assert ["d"] == desk.fail("a")
    assert {"a": "failed", "b": "skipped", "c": "skipped", "d": None} == desk.results
    desk.end("d")
    assert "partial" == desk.outcome


def test_a_skipped_step_ends_in_its_turn_and_not_before():
    # c needs the failed a, yet comes after slow too: only when slow has ended is c skipped and may d begin
    desk = Desk(plan(step("a"), step("slow"), step("c", "a", after=("slow",)), step("d", after=("c",))))
    desk.begin()

    assert [] == desk.fail("a")
    assert desk.results["c"] is None
    assert ["d"] == desk.end("slow")
    assert "skipped" == desk.results["c"]


def test_steps_that_ended_without_running_are_passed_on_once():
    desk = Desk(plan(step("a"), step("b", "a"), step("c", "b"), step("d", after=("c",))))
    desk.begin()
    desk.fail("a")

    assert [("b", "skipped"), ("c", "skipped")] == [(desk.ids[i], result) for i, result in desk.progress.passed]


@st.composite
def random_dags(draw):
    """(steps, the ids that will fail): each step needs some earlier ones and comes after others."""
    steps = []
    for i in range(draw(st.integers(1, 9))):
        before = {j: draw(st.sampled_from(["needs", "after", "no", "no"])) for j in range(i)}
        needs = tuple(f"s{j}" for j, how in before.items() if how == "needs")
        after = tuple(f"s{j}" for j, how in before.items() if how == "after")
        pools = (("forks", draw(st.integers(1, 3))),) if draw(st.booleans()) else ()
        steps.append(Step(id=f"s{i}", needs=needs, after=after, pools=pools))
    return tuple(steps), {s.id for s in steps if draw(st.booleans())}


@settings(deadline=None)
@given(random_dags(), st.randoms(use_true_random=False))
def test_each_step_ends_as_its_needs_say_whatever_ends_first(dag, luck):
    steps, failing = dag
    expected: dict[str, str] = {}
    for s in steps:
        fit = all(expected[n] == "succeeded" for n in s.needs)
        expected[s.id] = "skipped" if not fit else "failed" if s.id in failing else "succeeded"

    desk = Desk(plan(*steps, pools={"forks": 3}))
    desk.begin()
    while desk.running:
        name = luck.choice(desk.running)
        desk.end(name, failed=name in failing)

    assert expected == desk.results
    assert ("partial" if "failed" in expected.values() else "success") == desk.outcome


@settings(deadline=None)
@given(random_dags(), st.randoms(use_true_random=False))
def test_at_every_instant_a_scan_in_plan_order_starts_what_fits(dag, luck):
    steps, failing = dag
    desk = Desk(plan(*steps, pools={"forks": 3}))
    began: set[str] = set()
    room = 3

    def scan() -> list[str]:
        """The ready steps that fit, by a walk over the whole plan."""
        nonlocal room
        found = []
        for s in steps:
            ready = s.id not in began and desk.results[s.id] is None and all(desk.results[b] is not None for b in (*s.needs, *s.after))
            units = sum(n for _, n in s.pools)
            if ready and units <= room:
                room -= units
                found.append(s.id)
        return found

    expected = scan()
    begun = desk.begin()
    while True:
        assert expected == begun
        began.update(begun)
        if not desk.running:
            break
        name = luck.choice(desk.running)
        room += sum(n for s in steps if s.id == name for _, n in s.pools)
        desk.running.remove(name)
        desk.progress.ended(desk.ids.index(name), "failed" if name in failing else "succeeded")
        expected = scan()
        begun = desk.begin()


# Pools ----------------------------------------------------------------------------------------------------------------


def test_a_step_that_fits_overtakes_one_that_does_not():
    desk = Desk(
        plan(step("one", pools=(("crew", 1),)), step("two", pools=(("crew", 2),)), step("three", pools=(("crew", 1),)), pools={"crew": 2})
    )

    assert ["one", "three"] == desk.begin()
    assert [] == desk.end("one")
    assert ["two"] == desk.end("three")


def test_plan_order_decides_who_gets_the_last_place():
    desk = Desk(plan(*(step(name, pools=(("crew", 1),)) for name in ("b", "a", "c")), pools={"crew": 1}))

    assert ["b"] == desk.begin()
    assert ["a"] == desk.end("b")
    assert ["c"] == desk.end("a")


def test_a_step_must_fit_in_all_its_pools():
    both = step("both", pools=(("crew", 1), ("crane", 1)))
    desk = Desk(
        plan(step("crane-only", pools=(("crane", 1),)), both, step("crew-only", pools=(("crew", 1),)), pools={"crew": 1, "crane": 1})
    )

    assert ["crane-only", "crew-only"] == desk.begin()
    assert [] == desk.end("crane-only")
    assert ["both"] == desk.end("crew-only")


def test_a_failed_step_gives_its_place_back_too():
    desk = Desk(plan(step("a", pools=(("crew", 1),)), step("b", pools=(("crew", 1),)), pools={"crew": 1}))
    desk.begin()

    assert ["b"] == desk.fail("a")


# Judges ---------------------------------------------------------------------------------------------------------------


def rolling(hosts: int, batch: int, **rule) -> Plan:
    """One step a host, *batch* of them at a time, a judge after each batch."""
    steps: list[Step] = []
    barrier: tuple[str, ...] = ()
    for first in range(0, hosts, batch):
        names = tuple(f"host{k}" for k in range(first, min(hosts, first + batch)))
        steps += [Step(id=n, after=barrier) for n in names]
        barrier = (f"judge{first // batch}",)
        size = hosts if rule.get("of") == "plan" else len(names)
        steps.append(judge(barrier[0], names, size=size, **rule))
    return plan(*steps)


@pytest.mark.parametrize(
    ("of", "out", "outcome"),
    [
        ("batch", 10, "partial"),  # 1 of 2 is 50 %, not more
        ("plan", 10, "partial"),  # 10 of 20 at the end is 50 %, not more
        ("carried", 2, "halted"),  # after the second batch 2 failures, of a batch of 2: 100 %
    ],
)
def test_20_hosts_in_twos_one_of_each_failing_at_50_percent(of, out, outcome):
    desk = Desk(rolling(20, 2, limit=50, unit="percent", of=of))
    desk.play({f"host{k}" for k in range(0, 20, 2)})

    assert out == sum(result == "failed" for name, result in desk.results.items() if name.startswith("host"))
    assert outcome == desk.outcome


@pytest.mark.parametrize(
    ("rule", "failing", "aborts"),
    [
        ({"limit": 0}, 0, False),
        ({"limit": 0}, 1, True),
        ({"limit": 2}, 2, False),
        ({"limit": 2}, 3, True),
        ({"limit": None}, 4, False),
        ({"limit": 50, "unit": "percent"}, 2, False),
        ({"limit": 50, "unit": "percent"}, 3, True),
        ({"limit": 49.9, "unit": "percent"}, 2, True),
        ({"limit": 25, "unit": "percent"}, 1, False),
        ({"limit": 100, "unit": "percent"}, 4, False),
        ({"limit": 3}, 4, True),  # all of a batch of four
        ({"of": "all_of_batch"}, 3, False),
        ({"of": "all_of_batch"}, 4, True),
        ({"of": "all_of_batch", "limit": None, "unit": "percent"}, 4, True),
    ],
)
def test_a_judge_aborts_on_strictly_more_failures_than_its_limit(rule, failing, aborts):
    desk = Desk(rolling(4, 4, **rule))
    desk.play({f"host{k}" for k in range(failing)})

    assert ("failed" if aborts else "succeeded") == desk.verdicts["judge0"]
    assert ("halted" if aborts else "partial" if failing else "success") == desk.outcome


@pytest.mark.parametrize(("of", "aborts_at"), [("batch", None), ("carried", "judge2"), ("plan", "judge2")])
def test_only_judges_of_the_carried_or_the_plan_s_failures_add_up_batches(of, aborts_at):
    desk = Desk(rolling(8, 2, limit=2, of=of))  # at most two failures, and one in each batch
    desk.play({"host0", "host2", "host4", "host6"})

    assert aborts_at == next((name for name, verdict in desk.verdicts.items() if verdict == "failed"), None)


def test_a_percentage_of_the_plan_counts_all_failures_against_all_hosts():
    desk = Desk(rolling(10, 2, limit=20, unit="percent", of="plan"))
    desk.play({"host0", "host1", "host2"})

    assert {"judge0": "succeeded", "judge1": "failed"} == desk.verdicts  # 2 of 10 is not more than 20 %, 3 of 10 is


def test_the_next_batch_comes_after_the_judge_and_does_not_begin_if_it_aborts():
    desk = Desk(rolling(4, 2, limit=0))

    assert ["host0", "host1"] == desk.begin()
    assert [] == desk.fail("host0")
    assert [] == desk.end("host1")
    assert "halted" == desk.outcome


def test_a_skipped_step_is_no_second_failure():
    out, back = lane("w01")
    other = lane("w02")
    desk = Desk(plan(out, back, *other, judge("judge", tuple(s.id for s in (out, back, *other)), size=2, limit=1)))
    desk.play({"w01/out"})

    assert "skipped" == desk.results["w01/back"]
    assert {"judge": "succeeded"} == desk.verdicts


def test_two_judges_whose_turn_comes_at_one_instant_speak_in_plan_order():
    desk = Desk(plan(step("a"), judge("second", ("a",), limit=0), judge("first", ("a",), limit=0), step("b", "second", "first")))
    desk.begin()

    assert ["b"] == desk.end("a")
    assert ["second", "first"] == list(desk.verdicts)


def test_what_needs_a_judge_s_yes_begins_at_the_same_instant_through_a_chain_of_judges():
    desk = Desk(plan(step("a"), judge("j1", ("a",)), judge("j2", ("a",), after=("j1",)), step("b", "j2")))
    desk.begin()

    assert ["b"] == desk.end("a")


# Abort: fatal steps, gates, halt --------------------------------------------------------------------------------------


def test_a_fatal_failure_aborts_at_once_though_no_judge_has_spoken():
    desk = Desk(
        plan(
            step("fatal", fatal=True),
            step("other"),
            step("later", after=("other",)),
            judge("judge", ("fatal",), after=("later",), limit=None),
        )
    )
    desk.begin()

    assert [] == desk.fail("fatal")
    assert desk.outcome is None  # other still runs
    assert [] == desk.end("other")
    assert "halted" == desk.outcome


def test_a_fatal_step_that_succeeds_changes_nothing():
    desk = Desk(plan(step("fatal", fatal=True), step("later", "fatal")))

    assert ["fatal", "later"] == desk.play(set())


def test_an_abort_at_the_instant_in_which_others_become_ready_keeps_them_from_beginning():
    desk = Desk(plan(step("fatal", fatal=True), step("other"), step("later", "other")))
    desk.begin()
    desk.running.remove("other")
    desk.progress.ended(desk.ids.index("other"), "succeeded")

    assert [] == desk.fail("fatal")
    assert "halted" == desk.outcome


@pytest.mark.parametrize("on_abort", ["halt", "rollback"])
def test_a_judge_whose_turn_comes_at_the_instant_of_an_abort_is_not_heard(on_abort):
    desk = Desk(plan(step("a"), judge("judge", ("a",)), step("fatal", fatal=True), undo("undo"), on_abort=on_abort))
    desk.begin()
    desk.running.remove("a")
    desk.progress.ended(desk.ids.index("a"), "failed")
    begun = desk.fail("fatal")

    assert {} == desk.verdicts
    assert (["undo"] if on_abort == "rollback" else []) == begun


def test_after_a_halt_a_lane_that_has_begun_runs_to_its_end_and_no_other_begins():
    steps = (*lane("w01"), *lane("w02"), *lane("w03", after=("w01/back",)))
    desk = Desk(plan(step("fatal", fatal=True), *steps))
    desk.begin()

    assert [] == desk.fail("fatal")
    assert ["w01/back"] == desk.end("w01/out")
    assert [] == desk.end("w01/back")  # w03 would be next
    assert ["w02/back"] == desk.end("w02/out")
    assert [] == desk.end("w02/back")
    assert "halted" == desk.outcome
    assert desk.results["w03/out"] is None


def test_after_a_halt_a_begun_lane_that_waits_for_a_place_still_gets_it_and_a_new_lane_does_not():
    # one place: w01 goes out; then w02's first and w01's second step wait for it, and the fatal step fails
    steps = (*lane("w01", pools=(("crew", 1),)), *lane("w02", pools=(("crew", 1),)))
    desk = Desk(plan(*steps, step("fatal", fatal=True), pools={"crew": 1}))

    assert ["w01/out", "fatal"] == desk.begin()
    assert [] == desk.fail("fatal")
    assert ["w01/back"] == desk.end("w01/out")
    assert [] == desk.end("w01/back")
    assert "halted" == desk.outcome


def test_after_a_halt_no_judge_speaks_and_no_gate_opens():
    gate = Step(id="gate", kind="gate", gate=Gate(), after=("w01/back",))
    desk = Desk(plan(step("fatal", fatal=True), *lane("w01"), judge("judge", ("w01/out", "w01/back")), gate))
    desk.begin()
    desk.fail("fatal")
    desk.end("w01/out")
    desk.end("w01/back")

    assert {} == desk.verdicts
    assert (None, None) == (desk.results["gate"], desk.results["judge"])
    assert "halted" == desk.outcome


@settings(deadline=None)
@given(random_dags(), st.lists(st.integers(0, 2), min_size=9, max_size=9), st.integers(0, 8), st.randoms(use_true_random=False))
def test_after_a_halt_only_begun_lanes_go_on_in_any_plan(dag, targets, when, luck):
    steps, failing = dag
    steps = tuple(s.model_copy(update={"target": f"web@w0{t + 1}"}) for s, t in zip(steps, targets, strict=False))
    lanes: dict[str, set[str]] = {}
    for s in steps:  # a lane: steps on one target, joined by their needs
        joined = {s.id}.union(*(lanes[n] for n in s.needs if next(x for x in steps if x.id == n).target == s.target))
        lanes |= dict.fromkeys(joined, joined)
    desk = Desk(plan(*steps, pools={"forks": 3}))
    began = set(desk.begin())
    for _ in range(when):
        if desk.running:
            name = luck.choice(desk.running)
            began.update(desk.end(name, failed=name in failing))
    if desk.outcome is not None:
        return
    allowed = {name for b in began for name in lanes[b]}
    desk.progress.abort("halt", 0)
    later = desk.begin()
    while desk.running:
        name = luck.choice(desk.running)
        later += desk.end(name, failed=name in failing)

    assert set(later) <= allowed
    assert "halted" == desk.outcome
    for s in steps:  # what is left of a begun lane waits for a step that was not allowed to begin
        if s.id in allowed and desk.results[s.id] is None:
            assert any(desk.results[b] is None for b in (*s.needs, *s.after))


# Abort: rollback ------------------------------------------------------------------------------------------------------


def test_a_rollback_waits_for_what_runs_begins_nothing_more_and_then_runs_its_section():
    steps = (step("fatal", fatal=True), *lane("w01"), step("unborn", after=("w01/out",)), undo("undo"))
    desk = Desk(plan(*steps, on_abort="rollback"))
    desk.begin()

    assert [] == desk.fail("fatal")
    assert ["undo"] == desk.end("w01/out")  # and not w01/back: no further main step begins
    assert [] == desk.end("undo")
    assert "rolled_back" == desk.outcome


def test_a_plan_that_goes_well_never_touches_its_rollback_section():
    desk = Desk(plan(step("a"), undo("undo"), on_abort="rollback"))

    assert ["a"] == desk.play(set())
    assert "success" == desk.outcome
    assert desk.results["undo"] is None


def test_guards_ask_what_began_what_was_done_and_what_was_not():
    steps = (
        step("done"),
        step("failed", fatal=True),
        step("unborn", "done", after=("failed",)),
        undo("began-done", began=("done",)),
        undo("began-failed", began=("failed",)),
        undo("began-unborn", began=("unborn",)),
        undo("began-either", began=("unborn", "failed")),
        undo("done-done", done=("done",)),
        undo("done-failed", done=("failed",)),
        undo("done-both", done=("done", "failed")),
        undo("undone-done", undone=("done",)),
        undo("undone-failed", undone=("failed",)),
        undo("undone-unborn", undone=("unborn",)),
        undo("undone-either", undone=("done", "failed")),
        undo("out-lane", began=("failed",), undone=("failed",)),
        undo("back-lane", began=("done",), undone=("done",)),
    )
    desk = Desk(plan(*steps, on_abort="rollback"))
    desk.begin()
    desk.end("done")

    assert [
        "began-done",
        "began-failed",
        "began-either",
        "done-done",
        "undone-failed",
        "undone-unborn",
        "undone-either",
        "out-lane",
    ] == desk.fail("failed")


def test_guards_are_decided_when_the_last_running_main_step_has_ended():
    desk = Desk(
        plan(
            step("fatal", fatal=True),
            step("slow"),
            undo("if-slow-done", done=("slow",)),
            undo("if-not", undone=("slow",)),
            on_abort="rollback",
        )
    )
    desk.begin()
    desk.fail("fatal")

    assert ["if-slow-done"] == desk.end("slow")


def test_what_is_not_needed_counts_as_done_for_the_rest_of_its_lane():
    steps = (step("fatal", fatal=True), step("other"), undo("no", done=("fatal",)), undo("yes", "no", began=("other",)))
    desk = Desk(plan(*steps, on_abort="rollback"))
    desk.begin()
    desk.fail("fatal")

    assert ["yes"] == desk.end("other")
    assert "not_needed" == desk.results["no"]


def test_a_rollback_of_which_nothing_is_needed_is_over_at_once():
    desk = Desk(plan(step("fatal", fatal=True), undo("no", done=("fatal",)), undo("neither", "no", done=("fatal",)), on_abort="rollback"))
    desk.begin()
    desk.fail("fatal")

    assert "rolled_back" == desk.outcome
    assert ("not_needed", "not_needed") == (desk.results["no"], desk.results["neither"])


def test_a_rollback_with_a_failing_step_ends_halted_and_skips_the_rest_of_that_lane():
    desk = Desk(plan(step("fatal", fatal=True), undo("undo"), undo("then", "undo"), undo("other"), on_abort="rollback"))
    desk.begin()

    assert ["undo", "other"] == desk.fail("fatal")
    desk.fail("undo")
    desk.end("other")
    assert "skipped" == desk.results["then"]
    assert "halted" == desk.outcome


@pytest.mark.parametrize("ended", ["running", "succeeded", "failed"])
def test_a_begun_irreversible_step_turns_every_rollback_into_a_halt(ended):
    desk = Desk(plan(step("migrate", no_return=True), step("fatal", fatal=True), undo("undo"), on_abort="rollback"))
    desk.begin()
    if ended != "running":
        desk.end("migrate", failed=ended == "failed")
    desk.fail("fatal")
    if ended == "running":
        desk.end("migrate")

    assert "halted" == desk.outcome
    assert desk.results["undo"] is None


def test_an_irreversible_step_that_has_not_begun_leaves_the_way_back_open():
    desk = Desk(plan(step("fatal", fatal=True), step("migrate", "fatal", no_return=True), undo("undo"), on_abort="rollback"))

    assert ["fatal", "undo"] == desk.play({"fatal"})
    assert "rolled_back" == desk.outcome


def test_an_irreversible_step_in_a_begun_lane_still_runs_after_a_halt():
    desk = Desk(plan(step("fatal", fatal=True), *(s.model_copy(update={"no_return": s.id.endswith("back")}) for s in lane("w01"))))
    desk.begin()
    desk.fail("fatal")

    assert ["w01/back"] == desk.end("w01/out")


@pytest.mark.parametrize(("reaction", "outcome"), [("rollback", "rolled_back"), ("halt", "halted")])
def test_a_gate_that_finds_something_reacts_in_its_own_way(reaction, outcome):
    gate = Step(id="gate", kind="gate", gate=Gate(reaction=reaction), after=("a",))
    desk = Desk(plan(step("a"), gate, step("b", "gate"), undo("undo"), on_abort="halt" if reaction == "rollback" else "rollback"))
    desk.play({"gate"})

    assert outcome == desk.outcome
    assert desk.results["b"] is None


def test_two_aborts_are_one_the_first():
    gate = Step(id="gate", kind="gate", gate=Gate(reaction="halt"))
    desk = Desk(plan(gate, step("fatal", fatal=True), undo("undo"), on_abort="rollback"))
    desk.begin()
    desk.fail("gate")
    desk.fail("fatal")

    assert "halted" == desk.outcome
    assert desk.results["undo"] is None


def test_a_judge_may_ask_for_the_rollback():
    desk = Desk(plan(step("a"), judge("judge", ("a",)), undo("undo", began=("a",)), on_abort="rollback"))

    assert ["a", "undo"] == desk.play({"a"})
    assert "rolled_back" == desk.outcome


# Machines that die ----------------------------------------------------------------------------------------------------


def test_no_step_begins_on_a_dead_machine_and_others_go_on():
    desk = Desk(plan(step("first"), step("here", "first", on="w01"), step("there", "first", on="w02")))
    desk.begin()
    desk.progress.machine_down("w01")

    assert ["there"] == desk.end("first")
    assert [] == desk.end("there")
    assert desk.outcome is None  # it waits for the machine
    desk.progress.machine_up("w01")
    assert ["here"] == desk.begin()


def test_a_machine_that_is_back_before_its_step_s_turn_changes_nothing():
    desk = Desk(plan(step("first"), step("here", "first", on="w01")))
    desk.begin()
    desk.progress.machine_down("w01")
    desk.progress.machine_up("w01")

    assert ["here"] == desk.end("first")


def test_a_rollback_does_not_wait_for_a_main_step_that_a_dead_machine_keeps_from_beginning():
    desk = Desk(plan(step("first"), step("here", "first", on="w01"), step("fatal", fatal=True), undo("undo"), on_abort="rollback"))
    desk.begin()
    desk.progress.machine_down("w01")
    desk.end("first")

    assert ["undo"] == desk.fail("fatal")


def test_after_a_halt_a_begun_lane_waits_for_its_machine():
    out, back = lane("w01", on="w01")
    desk = Desk(plan(out, back, *lane("w02", after=("w01/back",)), step("fatal", fatal=True)))
    desk.begin()
    desk.progress.machine_down("w01")
    desk.end("w01/out")
    desk.fail("fatal")

    assert desk.outcome is None
    desk.progress.machine_up("w01")
    assert ["w01/back"] == desk.begin()
    desk.end("w01/back")
    assert "halted" == desk.outcome
