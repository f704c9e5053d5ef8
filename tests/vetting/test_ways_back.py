"""Rollbacks against brute force, replays of witnesses, and the simulator against the floors."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Iterator

import pytest

from simdeploy.plan.facts import FactBook
from simdeploy.plan.layout import Layout
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import ROLLBACK
from simdeploy.planning.kinds import build_plan, build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import simulate
from simdeploy.simulation.replay import replay
from simdeploy.vetting.capacity import front_door
from simdeploy.vetting.case import Case, Wanted
from simdeploy.vetting.floors import Without
from simdeploy.vetting.section import Section
from simdeploy.vetting.shape import Shape
from simdeploy.vetting.vet import vet
from simdeploy.vetting.ways_back import ways_back
from tests.vetting.states import capacity_in, runs

SCENARIOS = pathlib.Path(__file__).parent.parent.parent / "scenarios"

ENVIRONMENT = """
name: e
machines: [{machines}]
entry: web
demand: {{rate: 50 req/s}}
services:
  web:
    on: [{web}]
    capacity: 60 req/s
    actions: &a {{drain: {{duration: 1 s}}, install: {{duration: 1 s}}, start: {{duration: 1 s}}}}
    {calls}
  {mid}
"""


def small_upgrade(rng: random.Random, folder: pathlib.Path) -> Plan:
    web = [f"w{i}" for i in range(rng.randint(2, 3))]
    mid = ["m0", "m1"] if len(web) == 2 and rng.random() < 0.5 else []
    text = ENVIRONMENT.format(
        machines=", ".join(f"{{name: {m}}}" for m in web + mid), web=", ".join(web), calls="calls: {mid: 1}" if mid else "",
        mid=f"mid: {{on: [{', '.join(mid)}], capacity: 40 req/s, actions: *a}}" if mid else "",
    )  # fmt: skip
    (folder / "e.yaml").write_text(text)
    to = '{web: "2", mid: "2"}' if mid else '{web: "2"}'
    batches = rng.choice(["1", "2", "all", "[1, 2]"] if len(web) == 2 else ["1", "2"])
    order = "[mid, web]" if mid else "[web]"
    strategy = f"{{on_abort: rollback, order: {order}, services: {{web: {{batches: {batches}}}}}}}"
    (folder / "u.yaml").write_text(f"scenario: upgrade\nenvironment: e.yaml\nto: {to}\nstrategies: {{s: {strategy}}}\n")
    return build_plan(load_scenario(folder / "u.yaml"), "s")


def test_the_least_of_all_rollbacks_is_that_of_all_reachable_states(tmp_path):
    rng, lower = random.Random(11), 0
    for _ in range(12):
        plan = small_upgrade(rng, tmp_path)
        layout = Layout(plan)
        book = FactBook(layout)
        wanted = min(
            capacity_in(plan, layout, book, events) for progress, events in runs(plan, spared="rollback") if progress.section == ROLLBACK
        )
        shape = Shape(plan)
        cases = ways_back(Case(Section(shape), Wanted(shape)))
        found = min(front_door(case.floors).least_per_s for case in cases)

        assert found == pytest.approx(wanted), plan.to_json()
        lower += wanted < book.steady
    assert lower == 12


def test_so_is_it_when_the_rollback_fails_too(tmp_path):
    rng, tried = random.Random(13), 0
    while tried < 6:
        plan = small_upgrade(rng, tmp_path)
        if len(plan.steps) > 21:  # of more there are too many states
            continue
        layout = Layout(plan)
        book = FactBook(layout)
        wanted = min(capacity_in(plan, layout, book, events) for progress, events in runs(plan) if progress.section == ROLLBACK)
        shape = Shape(plan)
        cases = ways_back(Case(Section(shape), Wanted(shape)))

        assert min(front_door(case.floors, Without(failing=True)).least_per_s for case in cases) == pytest.approx(wanted), plan.to_json()
        tried += 1


def shipped() -> Iterator[tuple[str, str, str]]:
    """(file, strategy, finding) of the findings of capacity in shipped scenarios that are small enough to be replayed at once."""
    for file in (
        "canonical/upgrade",
        "canonical/upgrade-with-validation",
        "canonical/machine-replacement",
        "partitions/upgrade-quorum",
        "kinds/upgrade",
        "fleet/upgrade",
    ):
        for strategy, plan in build_plans(load_scenario(SCENARIOS / f"{file}.yaml")).items():
            for finding in vet(plan).findings:
                if finding.witness is not None and finding.invariant in (
                    "capacity",
                    "failures",
                    "machine-lost",
                    "zone-lost",
                    "declared-outage",
                ):
                    yield file, strategy, finding.id


@pytest.mark.parametrize(("file", "strategy", "name"), list(shipped()))
def test_a_replay_reaches_the_state_of_its_witness(file, strategy, name):
    plan = build_plan(load_scenario(SCENARIOS / f"{file}.yaml"), strategy)
    [finding] = [f for f in vet(plan).findings if f.id == name]
    shape = Shape(plan)
    main = Case(Section(shape), Wanted(shape))
    lost = frozenset(i for m in finding.witness.lost for i in shape.on_machine[m])
    given = Without(lost=lost, failing=finding.invariant == "failures", declared=finding.invariant == "declared-outage")

    if not finding.id.startswith("rollback"):
        least = front_door(main.floors, given).least_per_s
        if finding.invariant in ("capacity", "failures", "declared-outage"):
            env = plan.environment
            least = main.floors.floor(finding.subject, None, given).per_s / env.visits[finding.subject]
        assert replay(plan, finding).capacity_per_s <= least + 1e-6
    else:
        assert replay(plan, finding).capacity_per_s < plan.environment.demand.peak_per_s


@pytest.mark.parametrize(
    "file", ["canonical/upgrade", "canonical/scale-out", "partitions/upgrade-quorum", "partitions/upgrade-cells", "kinds/upgrade"]
)
def test_a_run_in_which_nothing_fails_never_goes_below_the_floor(file):
    """Every replication of every strategy with the luck that nothing fails or crashes."""
    for plan in build_plans(load_scenario(SCENARIOS / f"{file}.yaml")).values():
        lucky = plan.model_copy(
            update={
                "steps": tuple(
                    s.model_copy(update={"p_fail": 0.0, "timeout_s": None if not s.until_idle else s.timeout_s}) for s in plan.steps
                )
            }
        )
        floor = vet(lucky).floors[0].least_per_s

        assert floor is None or simulate(lucky, 50, 3).values["capacity_min"].min() >= floor - 1e-6
