"""Which disruptions an environment can meet, and the recovery from each as it is protected now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from simdeploy.environment.models import Environment
from simdeploy.environment.policy import DISRUPTIONS, Lose
from simdeploy.environment.stores import Standby
from simdeploy.plan.plan import Plan
from simdeploy.planning.data_restore import DataRestore
from simdeploy.planning.disaster import disaster
from simdeploy.planning.kinds import build_plan
from simdeploy.planning.recovery import Case, Disruption, RecoveryScenario, RecoveryStrategy, assess, datastores, zones
from simdeploy.planning.recovery_rules import shares_fate
from simdeploy.tables import listed
from simdeploy.units import format_s

AS_IT_IS = RecoveryStrategy()
"""Protected as the environment says, and recovered as that allows."""


class Loss(NamedTuple):
    """One disruption."""

    lose: Lose
    which: str | None = None
    """The store that holds something wrong, the machine or the zone."""
    alike: tuple[str, ...] = ()
    """The machines whose loss comes to the same, this one included."""

    def __str__(self) -> str:
        return f"{self.lose} {self.which}" if self.which else self.lose


def losses(env: Environment) -> list[Loss]:
    """Every disruption that *env* can meet, from the smallest to the largest.

    Of machines with the same services, the same of them led from there, in the same cell, the first stands for all.
    """
    alike: dict[object, list[str]] = {}
    leaders = {env.leader_of(s) for s, spec in env.services.items() if _is_led(env, s) and spec.on}
    here: dict[str, list[str]] = {}
    for instance, (_, machine) in env.instances.items():
        here.setdefault(machine, []).append(instance)
    own = [m.name for m in env.machines if not m.hosted]
    for name in own:
        does = frozenset((env.instances[i][0], i in leaders) for i in here.get(name, ()))
        alike.setdefault((does, env.cell_of.get(name)), []).append(name)
    found = [Loss("application", store) for store in datastores(env)]
    found += [Loss("machine", names[0], tuple(names)) for names in alike.values()]
    found += [Loss("zone", zone) for zone in zones(env)]
    return [*found, Loss("everything")] if own else found


def _is_led(env: Environment, service: str) -> bool:
    spec = env.services[service]
    return spec.role in ("datastore", "leader_elected") or spec.serves == "leader"


def nothing_to_lose(env: Environment) -> dict[Lose, str]:
    """Disruption that *env* cannot meet -> why."""
    met = {loss.lose for loss in losses(env)}
    why: dict[Lose, str] = dict.fromkeys(DISRUPTIONS, "every machine is hosted, and its provider brings it back")
    why["application"] = "no service is a datastore, so nothing wrong can be written to one"
    if any(not m.hosted for m in env.machines):
        why["zone"] = "no machine has a zone, so nobody can tell what is lost with one; give machines their zone"
    return {lose: reason for lose, reason in why.items() if lose not in met}


def recovery_from(env: Environment, loss: Loss, strategy: RecoveryStrategy = AS_IT_IS) -> RecoveryScenario:
    """The recovery of *env* from *loss*. Raises InvalidDocument where it cannot recover."""
    strategies = {"as-it-is": strategy}
    if loss.lose != "application":
        return disaster(env, loss.lose, loss.which, strategies=strategies)
    return DataRestore(
        scenario="data_restore",
        name=f"corrupt-{loss.which}"[:63],
        environment=env,
        disruption=Disruption(lose="application"),
        store=loss.which or "",
        noticed=env.recovery.noticed or env.recovery.detect,
        strategies=strategies,
    )


def plan_after(env: Environment, loss: Loss, strategy: RecoveryStrategy = AS_IT_IS) -> Plan:
    """The plan by which *env* recovers from *loss*. Raises InvalidDocument where it cannot."""
    return build_plan(recovery_from(env, loss, strategy), "as-it-is")


def case_of(env: Environment, loss: Loss) -> Case:
    """What *loss* comes to, also where it cannot be recovered from."""
    which = None if loss.lose == "application" else loss.which
    steps = (env.recovery.noticed or env.recovery.detect, env.recovery.decide) if loss.lose == "application" else ()
    unseen_s = sum(step.mean_s for step in steps if step is not None)
    stores = (loss.which,) if loss.lose == "application" and loss.which else datastores(env)
    return assess(env, Disruption(lose=loss.lose, which=which), AS_IT_IS, stores, unseen_s)


def what_survives(env: Environment, loss: Loss) -> Iterator[str]:
    """Of each store that *loss* hits what its data comes back from: 'sql comes back from a backup every 24 h'."""
    case = case_of(env, loss)
    for name, one in case.stores.items():
        store = env.services[name].store
        left = []
        for copy in store.copies if store else ():
            if isinstance(copy, Standby):
                if one.way == "promote":
                    left.append(f"a standby {format_s(copy.delay_s or copy.lag_s)} behind")
            elif one.by_itself or shares_fate(case, copy):
                continue
            elif copy.kind == "backup":
                left.append(f"a backup every {format_s(copy.every_s)}")
            else:
                every = "without a time-out" if copy.closes_every_s is None else f"every {format_s(copy.closes_every_s)}"
                left.append(f"a log archive {every}")
        yield f"{name} comes back from {listed(left) or 'nothing'}"
