"""How long vetting takes as a plan grows: `make benchmarks`. Seconds and memory of one process, and as a ratio to 100 machines."""

from __future__ import annotations

import pathlib
import resource
import tempfile
import time

from simdeploy.plan.plan import Plan
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.vetting.vet import vet

SIZES = (100, 1000, 10_000)
ACTIONS = "{drain: {duration: 10 s}, stop: {duration: 5 s}, install: {duration: 60 s}, start: {duration: 10 s}, undrain: {duration: 1 s}}"


def plan(machines: int, rolls_back: bool) -> Plan:
    """An upgrade of two tiers in three zones and of two monitors, in batches of a twentieth, with or without a rollback."""
    half = machines // 2 - 2
    names = [f"{tier}{k}" for tier in "wm" for k in range(half)]
    boxes = [f"{{name: {name}, zone: {'abc'[k % 3]}}}" for k, name in enumerate([*names, "s1", "o1", "o2"])]
    tier = f"capacity: 100 req/s, actions: {ACTIONS}"
    environment = f"""name: big
machines: [{", ".join(boxes)}]
entry: web
demand: {{rate: {half * 60} req/s}}
services:
  web: {{on: [{", ".join(names[:half])}], calls: {{mid: 1}}, accepts: {{"2": {{mid: ["1", "2"]}}, "1": {{mid: ["1", "2"]}}}}, {tier}}}
  mid: {{on: [{", ".join(names[half:])}], calls: {{sql: 1}}, {tier}}}
  sql: {{role: datastore, on: [s1], capacity: {half * 200} req/s}}
  mon: {{role: monitoring, on: [o1, o2], actions: {ACTIONS}}}
"""
    strategy = (
        "services: {web: {batches: [1, 5 %]}, mid: {batches: [1, 5 %]}, mon: {batches: 1}}, order: [mid, web, mon], max_failures: 2 %"
    )
    back = ", on_abort: rollback" if rolls_back else ""
    upgrade = f"""scenario: upgrade
environment: environment.yaml
to: {{web: "2", mid: "2", mon: "2"}}
strategies: {{s: {{{strategy}{back}}}}}
"""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "environment.yaml").write_text(environment)
        (pathlib.Path(folder) / "upgrade.yaml").write_text(upgrade)
        return build_plan(load_scenario(pathlib.Path(folder) / "upgrade.yaml"), "s")


def main() -> None:
    """Print the table."""
    print(f"{'machines':>8} {'rollback':>8} {'steps':>8} {'seconds':>8} {'ratio':>6} {'peak MiB':>9}")
    for rolls_back in (False, True):
        first = 0.0
        for machines in SIZES:
            built = plan(machines, rolls_back)
            start = time.perf_counter()
            assert vet(built).is_clean
            wall = time.perf_counter() - start
            first = first or wall
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(f"{machines:>8} {'yes' if rolls_back else 'no':>8} {len(built.steps):>8} {wall:>8.2f} {wall / first:>6.1f} {peak:>9}")


if __name__ == "__main__":
    main()
