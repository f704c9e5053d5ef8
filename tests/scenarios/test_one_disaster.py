"""One disaster, one answer: a compute restore after a loss is the disaster recovery of the same machines, and both are a pencil's."""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import numpy as np
import pytest

from simdeploy.environment.files import load_environment
from simdeploy.environment.models import Environment
from simdeploy.plan.metrics import METRICS
from simdeploy.plan.plan import Plan
from simdeploy.planning.compute_restore import ComputeRestore
from simdeploy.planning.disaster import disaster
from simdeploy.planning.kinds import build_plan, build_plans
from simdeploy.planning.loading import load_scenario
from simdeploy.simulation.outcome import simulate

KINDS = pathlib.Path(__file__).parents[2] / "scenarios" / "kinds"
PLACES = ("onebox", "test", "dogfood", "production")


def restored(env: Environment, spares: int, **keys: Any) -> Plan:
    """The compute restore after the loss of some machines of *env*."""
    strategies = {"s": {"when": "after_loss", "spares": spares}}
    return build_plan(ComputeRestore(scenario="compute_restore", name="r", environment=env, strategies=strategies, **keys), "s")


def recovered(env: Environment, spares: int, lose: str, which: str | None, **keys: Any) -> Plan:
    """The disaster recovery from the same loss."""
    return build_plan(disaster(env, lose, which, strategies={"s": {"spares": spares}}, **keys), "s")


def losses(env: Environment) -> list[tuple[str, str | None, list[str]]]:
    """(what is lost, which, its machines)."""
    own = [m for m in env.machines if not m.hosted]
    zones = {m.zone for m in own if m.zone is not None}
    found: list[tuple[str, str | None, list[str]]] = [("machine", m.name, [m.name]) for m in own]
    found += [("zone", zone, [m.name for m in own if m.zone == zone]) for zone in sorted(zones)]
    return [*found, ("everything", None, [m.name for m in own])]


@pytest.mark.parametrize("place", PLACES)
def test_a_restore_after_a_loss_is_the_recovery_from_the_disaster(place):
    """Every machine, zone and all, with and without spares and hands: the same steps, and the same figures in each replication."""
    env = load_environment(KINDS / f"{place}.yaml")

    for (lose, which, machines), spares, hands in itertools.product(losses(env), (0, 2), (None, 1)):
        one, other = (
            restored(env, spares, machines=machines, hands=hands),
            recovered(env, spares, lose, which, hands=hands),
        )
        assert other.steps == one.steps, (lose, which)
        figures, wanted = (simulate(plan, replications=3, seed=5).values for plan in (one, other))
        for metric in METRICS:
            np.testing.assert_array_equal(wanted[metric], figures[metric], f"{lose} {which} {metric}")


ENVIRONMENT = """
name: pencil
machines: [{name: lb1, hosted: true}, {name: web1}, {name: web2}, {name: mid1}, {name: mid2}, {name: sql1}]
entry: lb
demand: {rate: 100 req/s}
recovery: {detect: 120 s, decide: 600 s, validate: 180 s, hands: 1}
actions: {allocate: {duration: 600 s}}
services:
  lb: {on: [lb1], calls: {web: 1}}
  web:
    on: [web1, web2]
    capacity: 300 req/s
    calls: {mid: 1.5}
    actions: {install: {duration: 120 s}, start: {duration: 20 s}}
  mid:
    on: [mid1, mid2]
    capacity: 200 req/s
    calls: {sql: 2}
    actions: {install: {duration: 120 s}, start: {duration: 20 s}, repoint: {duration: 40 s}}
  sql:
    role: datastore
    on: [sql1]
    capacity: 500 req/s
    actions: {install: {duration: 60 s}, start: {duration: 30 s}}
    store:
      size: 60 GB
      restore_rate: 100 MB/s
      log_rate: 1 MB/s
      replay_rate: 10 MB/s
      copies:
        - {kind: backup, every: 24 h, takes: 30 min, begins_at: "01:00"}
        - {kind: log_archive, closes_every: 1 s, ships_in: 0 s}
"""
RESTORE = """
scenario: compute_restore
environment: environment.yaml
machines: [web1, mid1, sql1]
starts_at: "23:30"
horizon: 3 h
strategies: {ordered: {when: after_loss}, spared: {when: after_loss, spares: 2}, idle: {when: after_loss, spares: 4}}
"""


def test_rates_replay_hands_and_repointing_come_to_what_a_pencil_says(tmp_path):
    (tmp_path / "environment.yaml").write_text(ENVIRONMENT)
    (tmp_path / "restore.yaml").write_text(RESTORE)
    plans = build_plans(load_scenario(tmp_path / "restore.yaml"))

    found = {name: {m: v[0] for m, v in simulate(plan, replications=1).values.items()} for name, plan in plans.items()}

    # decided at 720 s; one pair of hands has the store's machine at 1,320 s, that of the middle tier at 1,920, web's at 2,520 s.
    # The store: install 60, 60 GB at 100 MB/s 600, the log of 22.5 h at a tenth of its time 8,100, start 30: it leads at 10,110 s.
    # The new middle box starts then (20 s), the old one is repointed (40 s), and then somebody looks for 180 s.
    away_s = 720 + 600 + 60 + 600 + 22.5 * 3600 / 10 + 30
    # two spares are there at 720 s; so the hands are free for web's machine
    saved_s = {"ordered": 0, "spared": 600, "idle": 600}
    # web2 and mid2 live; what is allocated is paid for from then on, a spare throughout, what died not at all
    paid_s = {
        "ordered": 2 * 10800 + (10800 - 1320) + (10800 - 1920) + (10800 - 2520),
        "spared": 2 * 10800 + 2 * 10800 + (10800 - 1320),
        "idle": 2 * 10800 + 4 * 10800,
    }
    for name, figures in found.items():
        # the archive is up to 1 s behind, of which a tenth need not be replayed
        assert pytest.approx(away_s - saved_s[name] + 20, abs=0.11) == figures["downtime_s"]
        assert pytest.approx(away_s - saved_s[name] + 40 + 180, abs=0.11) == figures["rto_s"]
        assert 0 <= figures["data_loss_s"] <= 1
        assert pytest.approx(paid_s[name] / 3600) == figures["machine_hours"]
        assert (1, 0, 1) == (figures["success"], figures["out_at_end"], figures["failovers"])
    assert ("sql1-new", "mid1-new") == plans["spared"].start.spares


def test_a_lost_instance_that_nothing_replaces_counts_to_the_end_and_costs_nothing(tmp_path):
    # the store is restored, its standby's machine is not: there is no recipe 'seed'
    text = ENVIRONMENT.replace("{name: sql1}]", "{name: sql1}, {name: sql2}]").replace("on: [sql1]", "on: [sql1, sql2]")
    (tmp_path / "environment.yaml").write_text(text.replace("copies:\n", "copies:\n        - {kind: standby}\n"))
    env = load_environment(tmp_path / "environment.yaml")

    values = simulate(restored(env, 0, machines=["sql1", "sql2"], horizon=20000.0), replications=1).values

    assert (1, pytest.approx((4 * 20000 + 20000 - 1320) / 3600)) == (values["out_at_end"][0], values["machine_hours"][0])


@pytest.mark.parametrize("name", ["api", "zulu"])
def test_what_a_service_is_called_does_not_say_whose_machine_comes_first(tmp_path, name):
    """web and another caller of the store, alike but for their places in the list: with one pair of hands the first listed comes first."""
    more = f"  {name}: {{on: [box], calls: {{sql: 1}}, actions: {{install: {{duration: 500 s}}}}}}\n"
    text = ENVIRONMENT.replace("{name: mid1}, ", "{name: mid1}, {name: box}, ") + more
    (tmp_path / "environment.yaml").write_text(text)
    env = load_environment(tmp_path / "environment.yaml")

    plan = restored(env, 0, machines=["mid1", "box"])

    assert ["mid1-new", "box-new"] == [s.id.split("/")[1] for s in plan.steps if s.action == "allocate"]
    assert 720 + 2 * 600 + 500 + 180 == simulate(plan, replications=1).values["rto_s"][0]
