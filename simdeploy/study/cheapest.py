"""The cheapest sizes of the tiers with which a strategy meets all goals."""

from __future__ import annotations

import contextlib
import heapq
import math
from collections.abc import Mapping
from typing import NamedTuple

from simdeploy.errors import StudyError
from simdeploy.plan.plan import Plan
from simdeploy.planning.base import Scenario
from simdeploy.planning.kinds import build_plan
from simdeploy.simulation.outcome import simulate
from simdeploy.study.sizing import MOST_MORE, Tier, alone, carrying, sizes_text, tiers, with_sizes

MOST_TRIED = 100
"""Plans that a search forecasts at most, beside that of today's sizes."""
OF_EACH_TIER = ("capacity_min", "capacity_end")
"""Metrics of the front door that are the least over the tiers, so that no other tier makes up for one that misses its part."""


class Cheapest(NamedTuple):
    """The cheapest sizes that meet all goals of a scenario, and what was tried."""

    sizes: dict[str, int] | None
    """Tier -> machines; None where none of the sizes that were tried meets them."""
    machine_hours_per_day: float
    tried: int
    """How many plans were forecast."""
    why: str = ""
    """Why there are none; or, of the sizes of today, why a cheaper one may be left untried."""
    kept: tuple[str, ...] = ()
    """The tiers that stay as they are, since the strategy or a cell names their machines or their number."""


def cheapest(scenario: Scenario, strategy: str, replications: int = 200, seed: int = 0, growth: float = 1.0) -> Cheapest:
    """The sizes with the fewest machine-hours a day that meet all goals with *strategy*, at *growth* times the demand.

    Sizes are tried in the order of their cost, so the first that meets the goals is the cheapest. Left out are those with which the
    strategy cannot run, that do not carry the demand, or with which one tier misses a goal on capacity were it alone to carry
    anything. Where none of the first MOST_TRIED does, those of today are tried.

    Raises StudyError for a scenario without goals.
    """
    if not scenario.goals:
        raise StudyError(f"{scenario.name!r} has no goals, so every size meets them; state some")
    return _Search(scenario, strategy, replications, seed, growth).found()


class _Undecided(Exception):
    """Nobody can tell whether a goal is met."""


class _Search:
    """The search of one strategy at one growth of the demand."""

    def __init__(self, scenario: Scenario, strategy: str, replications: int, seed: int, growth: float) -> None:
        self._scenario, self._strategy, self._growth = scenario, strategy, growth
        self._replications, self._seed = replications, seed
        env = scenario.environment
        self._tiers = [tier for tier in tiers(env) if tier.scales]
        self._fixed = sum(not m.hosted for m in env.machines) - sum(len(t.machines) for t in self._tiers)
        self._tried = 0

    def found(self) -> Cheapest:
        """The cheapest sizes."""
        ladders: list[list[int]] = []
        for tier in self._tiers:
            sizes, why = self._ladder(tier)
            if not sizes:
                return Cheapest(None, math.nan, self._tried, why)
            ladders.append(sizes)
        kept = tuple(t.name for t, sizes in zip(self._tiers, ladders, strict=True) if sizes == [len(t.machines)])
        try:
            return self._first(ladders)._replace(kept=kept)
        except _Undecided as goal:
            why = f"{self._replications} replications cannot tell whether {goal} is met; ask for more"
            return Cheapest(None, math.nan, self._tried, why, kept)

    def _first(self, ladders: list[list[int]]) -> Cheapest:
        """The first of all combinations of sizes, by cost, that meets all goals."""
        start = (0,) * len(ladders)
        waiting, seen = [(sum(sizes[0] for sizes in ladders), start)], {start}
        chosen: dict[str, int] = {}
        unmet: list[str] = []
        while waiting and self._tried < MOST_TRIED:
            _, rungs = heapq.heappop(waiting)
            chosen = {t.name: sizes[k] for t, sizes, k in zip(self._tiers, ladders, rungs, strict=True)}
            unmet = self._unmet(self._scenario, chosen)
            if not unmet:
                return self._of(chosen)
            for i, sizes in enumerate(ladders):
                larger = (*rungs[:i], rungs[i] + 1, *rungs[i + 1 :])
                if larger[i] < len(sizes) and larger not in seen:
                    seen.add(larger)
                    heapq.heappush(waiting, (sum(s[k] for s, k in zip(ladders, larger, strict=True)), larger))
        today = {tier.name: len(tier.machines) for tier in self._tiers}
        tried = self._tried
        if waiting and sum(today.values()) >= sum(chosen.values()) and not self._unmet(self._scenario, today):
            return self._of(today)._replace(why=f"as it is; {tried} plans of cheaper sizes do not, those between were not tried")
        missed = f"not met with {sizes_text(chosen)}: {'; '.join(unmet)}" if chosen else "all went into single tiers"
        return Cheapest(None, math.nan, self._tried, f"none of {self._tried} plans meets all goals; {missed}")

    def _of(self, sizes: dict[str, int]) -> Cheapest:
        return Cheapest(sizes, 24.0 * (sum(sizes.values()) + self._fixed), self._tried)

    def _ladder(self, tier: Tier) -> tuple[list[int], str]:
        """The sizes of a tier that may do, the others as they are today, the smallest first; or why there are none."""
        env, has = self._scenario.environment, len(tier.machines)
        wanted = self._growth * env.demand.peak_per_s
        own = tuple(g for g in self._scenario.goals if g.metric in OF_EACH_TIER and g.comparison in (">=", ">"))
        sure = [g.value for g in own if g.chance is None or g.chance > 0]  # it never carries more than all of its machines
        least = max(carrying(env, name, max([wanted, *sure])) for name in tier.services)
        sizes = [n for n in sorted({*range(least, least + MOST_MORE + 1), has}) if n >= least and self._runs(tier, n)]
        if not sizes:
            return [], f"{tier.name} would need {least} machines at least, and {self._strategy!r} runs with no such number"
        others = {n: s if n in tier.services else s.model_copy(update={"capacity_per_s": None}) for n, s in env.services.items()}
        by_itself = self._scenario.model_copy(update={"environment": env.model_copy(update={"services": others}), "goals": own})
        if not own:
            return sizes, ""
        unmet, last = list[str](), 0
        for k, size in enumerate(sizes[: max(0, MOST_TRIED - self._tried)]):
            try:
                unmet, last = self._unmet(by_itself, {tier.name: size}), size
            except _Undecided:
                unmet = []
            if not unmet:
                return sizes[k:], ""
        return [], f"no size of {tier.name} up to {last} meets {'; '.join(unmet)}"

    def _runs(self, tier: Tier, size: int) -> bool:
        try:
            with_sizes(alone(self._scenario, self._strategy), {tier.name: size})
        except StudyError:
            return False
        return True

    def _unmet(self, scenario: Scenario, sizes: Mapping[str, int]) -> list[str]:
        """The goals that are not met with these sizes. Raises _Undecided where only more replications could tell."""
        self._tried += 1
        try:
            outcome = simulate(self._plan(scenario, sizes), self._replications, self._seed)
        except StudyError as error:
            return [str(error)]
        results = [r for r in outcome.goals() if not r.met]
        missed = [r.goal.text for r in results if r.met is False or r.probability is None]  # a metric without a value meets nothing
        if results and not missed:
            raise _Undecided(results[0].goal.text)
        return missed

    def _plan(self, scenario: Scenario, sizes: Mapping[str, int]) -> Plan:
        """The plan with these sizes; the horizon is that of all strategies, as far as the others can run with them."""
        if scenario.horizon_s is None:
            with contextlib.suppress(StudyError):
                return build_plan(with_sizes(scenario, sizes, self._growth), self._strategy)
        return build_plan(with_sizes(alone(scenario, self._strategy), sizes, self._growth), self._strategy)
