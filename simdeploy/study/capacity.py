"""Capacity planning of one strategy: headroom, machines each tier needs, the cheapest sizes, waits, and when to begin."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from simdeploy.environment.models import Environment
from simdeploy.errors import StudyError
from simdeploy.planning.base import Scenario
from simdeploy.planning.kinds import build_plan
from simdeploy.study.cheapest import Cheapest, cheapest
from simdeploy.study.comparison import chosen, compare, finite
from simdeploy.study.latency import Enough, Wait, enough, waits
from simdeploy.study.sizing import Headroom, Need, Spare, headroom, needs, spares
from simdeploy.study.windows import Window, Windows, windows
from simdeploy.tables import mime_bundle

if TYPE_CHECKING:
    import pandas as pd

GROWTHS = (1.0, 1.25, 1.5, 2.0)
PARTS = ("headroom", "spare", "needs", "waits", "enough", "windows")


class Capacity(NamedTuple):
    """What capacity planning says of one strategy in one environment."""

    environment: Environment
    strategy: str
    headroom: list[Headroom]
    spare: list[Spare]
    needs: list[Need]
    cheapest: Cheapest | None
    """None where the scenario has no goals."""
    waits: list[Wait]
    enough: list[Enough]
    windows: Windows | None
    """None where demand does not change over time."""

    def frame(self, part: str = "headroom") -> pd.DataFrame:
        """One part as a tidy frame: headroom, spare, needs, waits, enough or windows, a row for each of its values. Raises KeyError."""
        import pandas as pd

        parts: dict[str, tuple[type[Any], list[Any]]] = {
            "headroom": (Headroom, self.headroom),
            "spare": (Spare, self.spare),
            "needs": (Need, self.needs),
            "waits": (Wait, self.waits),
            "enough": (Enough, self.enough),
            "windows": (Window, [] if self.windows is None else self.windows.tried),
        }
        row, rows = parts[part]
        return pd.DataFrame(rows, columns=row._fields)

    def to_json(self) -> str:
        """All parts as one object with sorted keys; what is not finite is null."""
        parts = {name: json.loads(self.frame(name).to_json(orient="records")) for name in PARTS}
        found = None if self.cheapest is None else self.cheapest._asdict()
        if found is not None:
            found["machine_hours_per_day"] = finite(found["machine_hours_per_day"])
        best = [] if self.windows is None else [w.at_s for w in self.windows.best]
        return json.dumps({"strategy": self.strategy, "cheapest": found, "best_starts_s": best, **parts}, indent=1, sort_keys=True)

    def __repr__(self) -> str:
        return f"<Capacity of {self.environment.name} with {self.strategy}: {len(self.headroom)} services, {len(self.needs)} needs>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.study.capacity_overview import tables

        return mime_bundle(*tables(self))


def capacity(
    scenario: Scenario,
    strategy: str | None = None,
    growths: tuple[float, ...] = GROWTHS,
    curve: list[tuple[float, float]] | None = None,
    replications: int = 100,
    seed: int = 0,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Capacity:
    """Plan the capacity of *scenario* with *strategy* (by default the recommended one), for each of *growths* of the demand.

    *curve*: another demand, of a day or a week, for when to begin (see `curves.read_curve`). Raises StudyError for a strategy that
    the scenario does not have, a growth that is not above 0, and less than one replication.
    """
    if wrong := [g for g in growths if not 0 < g < math.inf]:
        raise StudyError(f"{wrong[0]:g} times the demand is no growth; ask for numbers above 0, such as 1.5")
    if replications < 1:
        raise StudyError(f"{replications} replications are none; ask for at least 1")
    name = chosen(scenario, [strategy])[0] if strategy else compare(scenario, replications, seed, jobs=jobs).recommended
    env, room = scenario.environment, headroom(scenario, name)
    changes = curve is not None or bool(env.demand.daily)
    return Capacity(
        env,
        name,
        room,
        spares(room, env.demand.peak_per_s, growths),
        needs(scenario, name, growths),
        cheapest(scenario, name, replications, seed) if scenario.goals else None,
        waits(env, room),
        enough(env),
        windows(build_plan(scenario, name), curve, replications, seed, jobs, progress) if changes else None,
    )
