"""The proofs of capacity with the failures that judges tolerate, against every reachable state of small plans."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest

from simdeploy.environment.models import Environment
from simdeploy.plan.plan import Plan, Start
from simdeploy.plan.steps import Judge, Step
from simdeploy.simulation.replay import replay
from simdeploy.vetting.capacity import front_door
from simdeploy.vetting.floors import Floors, Without
from simdeploy.vetting.section import Section
from simdeploy.vetting.shape import Shape
from simdeploy.vetting.vet import vet
from tests.vetting.states import brute_floor, brute_floor_with_failures


def judged_plan(rng: random.Random) -> Plan:
    """Batches of lanes over web's instances in any order, judged one by one, or (surge) new ones that come before the old ones go.

    Some lanes end out, and some batches wait for nothing.
    """
    n = rng.randint(2, 4)
    web = [f"w{i}" for i in range(n)]
    fresh = [f"n{i}" for i in range(n)] if rng.random() < 0.3 else []
    services = {"web": {"on": [*web, *fresh], "capacity": "60 req/s"}}
    env = Environment.model_validate(
        {
            "name": "e",
            "machines": [{"name": m} for m in (*web, *fresh)],
            "entry": "web",
            "demand": {"rate": "50 req/s"},
            "services": services,
        }
    )
    steps: list[Step] = []
    barrier: tuple[str, ...] = ()
    rng.shuffle(web)
    of = rng.choice(["batch", "batch", "carried", "plan", "all_of_batch"])
    limit = rng.choice([0, 0, 1, 1, 2, None])
    while web:
        batch, web = web[: (size := rng.randint(1, 2))], web[size:]
        lanes: list[list[Step]] = []
        for m in batch:
            i = f"web@{m}"
            if fresh:
                new = f"web@n{m[1:]}"
                lane = [
                    {"id": f"{new}/come", "target": new, "end": [["serve", new]]},
                    {"id": f"{i}/go", "target": i, "begin": [["out", i]]},
                ]
            else:
                lane = [{"id": f"{i}/out", "target": i, "begin": [["out", i]]}, {"id": f"{i}/back", "target": i, "end": [["serve", i]]}]
            before = barrier if not lanes or rng.random() < 0.7 else (lanes[-1][-1].id,)
            made = [Step.model_validate({**lane[0], "after": before, "lane": lane[0]["id"] if fresh else ""})]
            made.append(Step.model_validate({**lane[1], "needs": [made[0].id], "lane": lane[0]["id"] if fresh else ""}))
            lanes.append(made if fresh or rng.random() < 0.9 else made[:1])
        steps += [s for lane in lanes for s in lane]
        if rng.random() < 0.85:
            watch = [s.id for lane in lanes for s in lane]
            judge = {"watch": watch, "size": len(lanes), "limit": limit, "of": of}
            ends = [lane[-1].id for lane in lanes]
            steps.append(Step.model_validate({"id": f"judge{len(steps)}", "kind": "judge", "after": ends, "judge": judge}))
            barrier = (steps[-1].id,) if rng.random() < 0.8 else ()
        else:
            barrier = tuple(lane[-1].id for lane in lanes)
    return Plan(environment=env, steps=tuple(steps), start=Start(absent=tuple(f"web@{m}" for m in fresh)))


def test_with_the_failures_that_judges_tolerate_added_up():
    rng, leaks = random.Random(7), 0
    for _ in range(400):
        plan = judged_plan(rng)
        wanted = brute_floor_with_failures(plan)
        floors = Floors(Section(Shape(plan)))
        found = front_door(floors, Without(failing=True)).least_per_s

        assert found == pytest.approx(wanted, abs=1e-6), plan.to_json()
        leaks += found < front_door(floors).least_per_s
    assert leaks > 100


def tangled_plan(rng: random.Random) -> Plan:
    """Lanes of two services in judged batches as nobody should write them: fatal steps here and there, judges of every kind that
    may wait for or count a part only, lanes that wait for others half-way, a lead that is handed over.
    """
    web = [f"w{i}" for i in range(rng.randint(2, 4))]
    mid = [f"m{i}" for i in range(rng.randint(1, 3))] if rng.random() < 0.7 else web[: rng.randint(1, 3)]
    role = rng.choice([{}, {}, {"role": "leader_elected"}, {"role": "quorum"}])
    services = {
        "web": {"on": web, "capacity": f"{rng.choice([60, 100])} req/s", "calls": {"mid": rng.choice([0.5, 1, 2])}},
        "mid": {"on": mid, "capacity": f"{rng.choice([50, 90])} req/s", **role},
    }
    machines = [{"name": m} for m in dict.fromkeys([*web, *mid])]
    env = Environment.model_validate(
        {"name": "e", "machines": machines, "entry": "web", "demand": {"rate": "50 req/s"}, "services": services}
    )
    steps: list[Step] = []
    judges: list[str] = []
    chosen = rng.sample(list(env.instances), rng.randint(2, min(4, len(env.instances))))
    while chosen:
        batch, chosen = chosen[: (size := rng.randint(1, 2))], chosen[size:]
        barrier = tuple(rng.sample(judges, rng.randint(0, min(len(judges), 2)))) if rng.random() < 0.8 else ()
        lanes = [tangled_lane(rng, i, barrier, [s.id for s in steps]) for i in batch]
        steps += [s for lane in lanes for s in lane]
        if rng.random() < 0.15:
            judges.append(lanes[-1][-1].id)
            continue
        watch = [s.id for lane in lanes for s in lane if rng.random() < 0.95] or [lanes[0][0].id]
        of, percent = rng.choice(["batch", "carried", "plan", "all_of_batch"]), rng.random() < 0.3
        limit = None if of == "all_of_batch" or rng.random() < 0.1 else rng.choice([0, 25, 50, 100] if percent else [0, 1, 1, 2])
        judge = Judge(watch=tuple(watch), size=len(lanes), limit=limit, unit="percent" if percent else "count", of=of)
        after = {lane[-1].id for lane in lanes if rng.random() < 0.95} | ({rng.choice(judges)} if judges and rng.random() < 0.3 else set())
        judges.append(f"judge{len(judges)}")
        steps.append(Step(id=judges[-1], kind="judge", after=tuple(sorted(after)), judge=judge))
    if role.get("role") == "leader_elected" and rng.random() < 0.5:
        to, when = f"mid@{rng.choice(mid)}", rng.choice(["begin", "end"])
        steps.append(Step.model_validate({"id": "hand", "target": to, "after": [rng.choice(judges)], when: [["lead", "mid", to]]}))
    return Plan(environment=env, steps=tuple(steps))


def tangled_lane(rng: random.Random, i: str, barrier: tuple[str, ...], earlier: list[str]) -> list[Step]:
    """Out, perhaps some work, perhaps back; a step may wait for one of the *earlier* too, or not need the one before it."""
    lane = [{"id": f"{i}/out", "target": i, "after": barrier, rng.choice(["begin", "end"]): [["out", i]], "fatal": rng.random() < 0.15}]
    if rng.random() < 0.3:
        lane.append({"id": f"{i}/work", "target": i, "fatal": rng.random() < 0.1})
    if rng.random() < 0.85:
        lane.append({"id": f"{i}/back", "target": i, "end": [["serve", i]], "fatal": rng.random() < 0.1})
    for before, step in itertools.pairwise(lane):
        step["after"] = (rng.choice(earlier),) if earlier and rng.random() < 0.12 else ()
        step["needs" if rng.random() < 0.92 else "after"] = (before["id"],)
    if len(lane) > 1 and rng.random() < 0.1:
        again = [{**step, "id": f"{step['id']}2", "after": (), "needs": ()} for step in lane]
        for before, step in itertools.pairwise([lane[-1], *again]):
            step["needs" if rng.random() < 0.7 else "after"] = (before["id"],)
        lane += again
    return [Step.model_validate(step) for step in lane]


def test_failures_in_plans_that_nobody_should_write():
    """Never above the least of all reachable states, and equal to it in 19 of 20 of those in which a failure makes a difference.

    Of 16,000 plans of this kind none was above and one in a hundred below: where two judges that nothing orders count the same.
    """
    rng, tried, below = random.Random(8), 0, 0
    for _ in range(1200):
        plan = tangled_plan(rng)
        if len(plan.steps) > 11:
            continue
        wanted = brute_floor_with_failures(plan)
        floors = Floors(Section(Shape(plan)))
        found = front_door(floors, Without(failing=True)).least_per_s

        assert found <= wanted + 1e-6, plan.to_json()
        if found < front_door(floors).least_per_s - 1e-6:  # else the failures add nothing
            tried += 1
            below += found < wanted - 1e-6
    assert tried > 50
    assert below <= tried / 20


@pytest.mark.parametrize("make", [judged_plan, tangled_plan])
def test_a_replay_of_tolerated_failures_reaches_what_was_proved(make):
    rng, replayed = random.Random(10), 0
    for _ in range(300):
        plan = make(rng)
        floors = Floors(Section(Shape(plan)))
        if len(plan.steps) > 11 or front_door(floors, Without(failing=True)).least_per_s < brute_floor_with_failures(plan) - 1e-6:
            continue  # what no run reaches is not replayed
        for finding in vet(plan).findings:
            if finding.id.startswith("failures/"):
                least = floors.floor(finding.subject, None, Without(failing=True, declared=False)).per_s

                assert replay(plan, finding).capacity_per_s <= least / plan.environment.visits[finding.subject] + 1e-6, plan.to_json()
                replayed += 1
    assert replayed > 5


def test_a_lead_that_is_handed_to_who_failed_serves_nothing():
    """The judge tolerates that m1 fails and stays out; the lead goes to it all the same, unless the step needs its lane."""
    env = Environment.model_validate(
        {
            "name": "e",
            "machines": [{"name": "m0"}, {"name": "m1"}, {"name": "m2"}],
            "entry": "mid",
            "demand": {"rate": "50 req/s"},
            "services": {"mid": {"role": "leader_elected", "on": ["m0", "m1", "m2"], "capacity": "60 req/s"}},
        }
    )
    steps = [
        Step(id="out", target="mid@m1", begin=(("out", "mid@m1"),)),
        Step(id="back", target="mid@m1", needs=("out",), end=(("serve", "mid@m1"),)),
        Step(id="judge", kind="judge", after=("back",), judge=Judge(watch=("out", "back"), size=1, limit=1)),
        Step(id="hand", target="mid@m0", after=("judge",), end=(("lead", "mid", "mid@m1"),)),
    ]
    for limit, needs, wanted in ((1, (), 0.0), (0, (), 60.0), (1, ("back",), 60.0)):
        steps[2] = steps[2].model_copy(update={"judge": Judge(watch=("out", "back"), size=1, limit=limit)})
        steps[3] = steps[3].model_copy(update={"needs": needs})
        plan = Plan(environment=env, steps=tuple(steps))
        floors = Floors(Section(Shape(plan)))

        assert wanted == brute_floor_with_failures(plan)
        assert wanted == front_door(floors, Without(failing=True)).least_per_s
        assert 60.0 == front_door(floors).least_per_s


def web_plan(count: int, steps: list[dict[str, Any]], absent: Sequence[str] = (), **web: Any) -> Plan:
    """*count* web boxes of 60 req/s, w0, w1 and so on."""
    machines = [f"w{i}" for i in range(count)]
    services = {"web": {"on": machines, "capacity": "60 req/s", **web}}
    about = {"name": "e", "machines": [{"name": m} for m in machines], "entry": "web", "demand": {"rate": "50 req/s"}, "services": services}
    made = tuple(Step.model_validate(step) for step in steps)
    return Plan(environment=Environment.model_validate(about), steps=made, start=Start(absent=tuple(absent)))


def out(i: int, after: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    return {"id": f"w{i}/out", "target": f"web@w{i}", "after": after, "begin": [["out", f"web@w{i}"]], **more}


def back(i: int, **more: Any) -> dict[str, Any]:
    return {"id": f"w{i}/back", "target": f"web@w{i}", "needs": [f"w{i}/out"], "end": [["serve", f"web@w{i}"]], **more}


def judged(name: str, after: Sequence[str], watch: Sequence[str], limit: float, **more: Any) -> dict[str, Any]:
    judge = {"watch": watch, "size": 1, "limit": limit, **{k: v for k, v in more.items() if k == "of"}}
    return {"id": name, "kind": "judge", "after": after, "judge": judge, **{k: v for k, v in more.items() if k != "of"}}


W0 = ["w0/out", "w0/back"]
PAIR = {"begin": [["out", "web@w1"], ["out", "web@w2"]], "lane": "pair"}
PAIR_BACK = {"end": [["serve", "web@w1"], ["serve", "web@w2"]], "lane": "pair"}
COMES = {"id": "w2/come", "target": "web@w2", "end": [["serve", "web@w2"]], "lane": "swap"}
HAND = {"id": "hand", "target": "web@w1", "end": [["lead", "web", "web@w1"]]}
LEAKS: dict[str, tuple[Plan, float]] = {
    "a judge that needs what it counts is skipped when that fails": (
        web_plan(2, [out(0), back(0), judged("judge", [], W0, 0, needs=["w0/back"]), out(1, ["judge"])]),
        0,
    ),
    "who is only slowed by a lane is not of it": (
        web_plan(2, [out(0, slow=[["web@w1", 0.5]]), back(0), out(1, ["w0/back"]), judged("judge", W0, W0, 1)]),
        0,
    ),
    "a step that takes two takes both by one failure": (
        web_plan(4, [out(1, **PAIR), back(1, **PAIR_BACK), judged("judge", ["w1/back"], ["w1/out", "w1/back"], 1), out(0, ["judge"])]),
        60,
    ),
    "after a halt the lane that has begun goes on behind its judge": (
        web_plan(2, [out(0, lane="both"), back(0, lane="both"), judged("judge", W0, W0, 0), out(1, ["judge"], lane="both")]),
        0,
    ),
    "after a halt the lane that has begun goes on behind a fatal step": (
        web_plan(2, [out(0, lane="both"), back(0, lane="both", fatal=True), out(1, ["w0/back"], lane="both")]),
        0,
    ),
    "a fatal step of somebody else says nothing": (
        web_plan(3, [out(0), back(0), out(1, ["w0/back"], fatal=True, slow=[["web@w0", 0.5]])]),
        60,
    ),
    "an old machine that does not wait for the new one's success leaves nothing": (
        web_plan(3, [COMES, out(0, ["w2/come"], lane="swap"), judged("judge", ["w0/out"], ["w2/come", "w0/out"], 1)], ["web@w2"]),
        60,
    ),
    "what nobody counts keeps somebody from coming": (
        web_plan(
            2, [{"id": "get"}, {**COMES, "id": "come", "target": "web@w1", "end": [["serve", "web@w1"]], "needs": ["get"]},
                judged("judge", ["come"], ["come"], 0), out(0, ["judge"])], ["web@w1"],
        ),
        0,
    ),
    "a lead that was not handed over stays with who is taken": (
        web_plan(3, [HAND, out(0, ["hand"]), back(0)], role="leader_elected"),
        0,
    ),
    "a lead that had to be handed over first does not": (
        web_plan(3, [HAND, {**out(0), "needs": ["hand"]}, back(0)], role="leader_elected"),
        60,
    ),
    "a fatal step that takes a leader says nothing where it was passed over, since the lead was not handed over": (
        web_plan(
            3, [HAND, {**out(0, fatal=True), "needs": ["hand"]},
                {"id": "w0/copy", "target": "web@w0", "after": ["w0/out"], "slow": [["web@w0", 0.0]]}], role="leader_elected",
        ),
        0,
    ),
    "what slows somebody ends, also when it fails": (
        web_plan(3, [{"id": f"copy{i}", "slow": [[f"web@w{i}", 0.5]], "after": [f"copy{i - 1}"] * (i > 0)} for i in range(3)]),
        150,
    ),
    "who warms up before his judge speaks is out at worst": (
        web_plan(
            3, [out(0), back(0), {"id": "warm", "needs": ["w0/back"], "slow": [["web@w0", 0.5]]},
                judged("judge", ["warm"], [*W0, "warm"], 0)],
        ),
        120,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKS)
def test_failures_that_are_tolerated_unseen(name):
    plan, wanted = LEAKS[name]
    assert wanted == brute_floor_with_failures(plan)
    assert wanted == front_door(Floors(Section(Shape(plan))), Without(failing=True)).least_per_s


@pytest.mark.parametrize(("about", "wanted"), [({"balancing": "even"}, 3 * 60 / 4), ({"role": "leader_elected"}, 60 / 4)])
def test_two_steps_that_slow_one_box_at_once_slow_by_both(about, wanted):
    """An even balancer gives everybody what that box can take; a service that is led has no more than its leader."""
    slowing = [{"id": f"copy{k}", "slow": [["web@w0", 0.5]]} for k in range(2)]
    plan = web_plan(3, slowing, **about)

    assert wanted == brute_floor(plan)
    assert wanted == front_door(Floors(Section(Shape(plan)))).least_per_s


def test_a_fatal_step_of_a_lane_that_never_began_says_nothing_of_who_is_to_come_with_it():
    """Who is to leave stays where that fails, and the other does not come; the proof takes both for gone."""
    leaves = {"id": "leave", "target": "web@w2", "end": [["out", "web@w2"]]}
    both = {"id": "come", "target": "web@w2", "needs": ["leave"], "fatal": True, "end": [["serve", "web@w2"], ["serve", "web@w3"]]}
    plan = web_plan(4, [leaves, both, judged("judge", ["come"], ["leave", "come"], 1), out(0, ["judge"]), out(1, ["judge"])], ["web@w3"])

    assert 60 == brute_floor_with_failures(plan)
    assert 60 >= front_door(Floors(Section(Shape(plan))), Without(failing=True)).least_per_s


def test_who_should_be_out_by_now_but_was_not_taken_slows_an_even_balancer():
    """The proof takes one for the two, that it is out and that it slows the others: never above the truth."""
    leaves = {"id": "w2/out", "target": "web@w2", "end": [["out", "web@w2"]]}
    plan = web_plan(4, [leaves, back(2, slow=[["web@w2", 0.5]]) | {"needs": [], "after": ["w2/out"]}], balancing="even")
    floors = Floors(Section(Shape(plan)))

    assert 180 == brute_floor(plan) == front_door(floors).least_per_s
    assert 120 == brute_floor_with_failures(plan)
    assert 120 >= front_door(floors, Without(failing=True)).least_per_s


def test_a_box_of_double_weight_fills_an_even_balancer_early():
    """The shares are 1, 1 and 2 of 4: the third is full at 60 / (2/4) req/s. Who cannot be given its old weight keeps the new one."""
    shift = {"id": "shift", "target": "web@w2", "end": [["weight", "web@w2", 2]]}
    unshift = {"id": "unshift", "target": "web@w2", "needs": ["shift"], "end": [["weight", "web@w2", 1]]}
    plan = web_plan(3, [shift, unshift, out(0, ["unshift"])], balancing="even")
    floors = Floors(Section(Shape(plan)))

    assert 120 == brute_floor(plan) == front_door(floors).least_per_s
    assert 90 == brute_floor_with_failures(plan)
    assert 90 >= front_door(floors, Without(failing=True)).least_per_s


def wild_plan(rng: random.Random) -> Plan:
    """As tangled, and lanes named over several instances, steps that take two at once, that slow others or change weights, fresh
    boxes, judges that need what they count, even balancers, leads handed over anywhere, and doors that open late.
    """
    web, fresh = [f"w{i}" for i in range(rng.randint(2, 4))], [f"n{i}" for i in range(rng.choice([0, 0, 1, 2]))]
    role = rng.choice([{}, {}, {"balancing": "even"}, {"role": "quorum"}, {"role": "leader_elected"}])
    bold = rng.choice([1, 1, 4])
    led, odd, here = role.get("role") == "leader_elected", rng.choice([0, 0.1, 0.3]), [f"web@{m}" for m in web]
    todo, steps, judges = rng.sample(here, rng.randint(1, min(3, len(here)))) + [f"web@{m}" for m in fresh], list[dict[str, Any]](), [""]
    rng.shuffle(todo)
    while todo:
        lanes = [todo[:2]] if rng.random() < 0.1 * bold else [[i] for i in todo[: rng.randint(1, 2)]]
        todo = todo[sum(map(len, lanes)) :]
        made = [wild_lane(rng, who, rng.choice(judges), [s["id"] for s in steps], odd, bold, weights=not led, slowed=here) for who in lanes]
        steps += [s for lane in made for s in lane]
        if rng.random() < 0.15:
            judges.append(made[-1][-1]["id"])
            continue
        of = rng.choice(["batch", "batch", "carried", "plan", "all_of_batch"])
        judge = {"watch": [s["id"] for lane in made for s in lane], "size": len(made), "of": of}
        needs = [made[0][-1]["id"]] if rng.random() < odd / 3 else []
        after = [lane[-1]["id"] for lane in made if rng.random() < 0.96 and lane[-1]["id"] not in needs]
        limit = None if of == "all_of_batch" else rng.choice([0, 0, 1, 2, None])
        steps.append({"id": f"judge{len(judges)}", "kind": "judge", "judge": {**judge, "limit": limit}, "after": after, "needs": needs})
        judges.append(steps[-1]["id"])
    first = len(steps) - 1
    if led and rng.random() < 0.7:
        at, to = rng.randrange(len(steps)), rng.choice(here)
        steps[at].setdefault(rng.choice(["after", "needs"]), []).append("hand")
        steps.append({"id": "hand", "target": to, rng.choice(["begin", "end"]): [["lead", "web", to]]})
    elif not led and rng.random() < 0.15:
        steps.append({"id": "doors", rng.choice(["after", "needs"]): [steps[rng.randint(0, first)]["id"]], "end": [["open"]]})
    env = {"name": "e", "machines": [{"name": m} for m in (*web, *fresh)], "entry": "web", "demand": {"rate": "50 req/s"}}
    services = {"web": {"on": [*web, *fresh], "capacity": "60 req/s", **role}}
    return Plan(
        environment=Environment.model_validate({**env, "services": services}),
        steps=tuple(Step.model_validate(step) for step in steps),
        start=Start(absent=tuple(f"web@{m}" for m in fresh), live=steps[-1]["id"] != "doors"),
    )


def wild_lane(
    rng: random.Random, who: list[str], barrier: str, earlier: list[str], odd: float, bold: int, weights: bool, slowed: list[str]
) -> list[dict[str, Any]]:
    """Out (who is new does not leave), perhaps some work, perhaps back, for all of *who* by the same steps."""
    name, leave = "+".join(who), [["out", i] for i in who if "@n" not in i]
    lane: list[dict[str, Any]] = [
        {"id": f"{name}/out", rng.choice(["begin", "begin", "end"]): leave, "after": [barrier] if barrier else []}
    ]
    lane += [{"id": f"{name}/work"}] if rng.random() < 0.25 else []
    weight = [["weight", who[0], rng.choice([0, 0.5, 2])]] if weights and rng.random() < odd / 2 else []
    lane += [{"id": f"{name}/back", "end": [["serve", i] for i in who] + weight}] if rng.random() < 0.9 else []
    together = {"lane": rng.choice(["one", "two"])} if rng.random() < 0.2 else {}
    for before, step in itertools.pairwise([{}, *lane]):
        step |= {"target": who[0], "fatal": rng.random() < 0.08 * bold, **together}
        step |= {"slow": [[rng.choice(slowed), rng.choice([0, 0.5])]]} if rng.random() < odd else {}
        if before:
            step["needs" if rng.random() > odd / 3 else "after"] = [before["id"]]
        if before and earlier and rng.random() < odd / 2:
            step.setdefault("after", []).append(rng.choice(earlier))
    return lane


def test_failures_in_plans_of_every_kind_are_never_below_the_proof():
    """Of 86,863 such plans none was below it, and one in seventeen above: one in sixty where nothing is slowed, else one in eight."""
    rng, tried, matter = random.Random(9), 0, 0
    for _ in range(1500):
        plan = wild_plan(rng)
        if len(plan.steps) > 10:
            continue
        floors = Floors(Section(Shape(plan)))
        found = front_door(floors, Without(failing=True)).least_per_s

        assert found <= brute_floor_with_failures(plan) + 1e-6, plan.to_json()
        tried += 1
        matter += found < front_door(floors).least_per_s - 1e-6
    assert tried > 1000
    assert matter > 60
