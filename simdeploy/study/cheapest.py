"""The cheapest sizes of the tiers with which a strategy meets all goals."""

from __future__ import annotations

import contextlib
import heapq
import math
from collections.abc import Mapping
from typing import NamedTuple

from simdeploy.errors import StudyError
from simdeploy.plan.goals import GoalParts
from simdeploy.plan.plan import Plan
from simdeploy.planning.base import Scenario
from simdeploy.planning.kinds import build_plan
from simdeploy.simulation.outcome import simulate
from simdeploy.study.sizing import MOST_MORE, Tier, alone, carrying, sizes_text, tiers, with_sizes

MOST_TRIED = 100
"""Sizes of all tiers that a search forecasts at most, beside today's; and as many of single tiers."""
OF_EACH_TIER = ("capacity_min", "capacity_end")
"""Metrics of the front door that are the least over the tiers, so that no other tier makes up for one that misses its part."""


class Cheapest(NamedTuple):
    """The cheapest sizes that meet all goals of a scenario, and what was tried."""

    sizes: dict[str, int] | None
    """Tier -> machines; None where none of the sizes that were tried meets them."""
    machine_hours_per_day: float
    tried: int
    """How many sizes of all tiers together were forecast."""
    why: str = ""
    """Why there are none; or why cheaper ones may do as well."""
    kept: tuple[str, ...] = ()
    """The tiers that stay as they are, since the strategy or a cell names their machines or their number."""


def cheapest(scenario: Scenario, strategy: str, replications: int = 200, seed: int = 0, growth: float = 1.0) -> Cheapest:
    """The sizes with the fewest machine-hours a day that meet all goals with *strategy*, at *growth* times the demand.

    Sizes are tried in the order of their cost, so the first that meets the goals is the cheapest; if of a cheaper one nobody can
    tell, `why` says so. Left out are those with which the strategy cannot run, that do not carry the demand, or with which one tier
    misses a goal on capacity were it alone to carry anything. Where none of the first MOST_TRIED does, those of today are tried.

    Raises StudyError for a scenario without goals.
    """
    if not scenario.goals:
        raise StudyError(f"{scenario.name!r} has no goals, so every size meets them; state some")
    return _Search(scenario, strategy, replications, seed, growth).found()


class _Unmet(NamedTuple):
    """The goals that sizes miss, and those of which only more replications could tell."""

    missed: list[str]
    undecided: list[str]


class _Search:
    """The search of one strategy at one growth of the demand."""

    def __init__(self, scenario: Scenario, strategy: str, replications: int, seed: int, growth: float) -> None:
        self._scenario, self._strategy, self._growth = scenario, strategy, growth
        self._replications, self._seed = replications, seed
        env = scenario.environment
        self._tiers = [tier for tier in tiers(env) if tier.scales]
        self._fixed = sum(not m.hosted for m in env.machines) - sum(len(t.machines) for t in self._tiers)
        self._alone = 0
        self._unclear = ""

    def found(self) -> Cheapest:
        """The cheapest sizes."""
        ladders: list[list[int]] = []
        kept: list[str] = []
        for tier in self._tiers:
            possible = self._possible(tier)
            if not possible:
                least = self._least(tier)
                why = f"{tier.name} would need {least} machines at least, and {self._strategy!r} runs with no such number"
                return Cheapest(None, math.nan, 0, why)
            kept += [tier.name] if possible == [len(tier.machines)] and not self._runs(tier, possible[0] + 1) else []
            sizes, missed = self._worth_trying(tier, possible)
            if not sizes:
                return Cheapest(None, math.nan, 0, f"no size of {tier.name} up to {possible[-1]} meets {'; '.join(missed)}")
            ladders.append(sizes)
        return self._first(ladders)._replace(kept=tuple(kept))

    def _first(self, ladders: list[list[int]]) -> Cheapest:
        """The first of all combinations of sizes, by cost, that meets all goals."""
        start = (0,) * len(ladders)
        waiting, seen, tried = [(sum(sizes[0] for sizes in ladders), start)], {start}, 0
        today = {tier.name: len(tier.machines) for tier in self._tiers}
        chosen, unmet = today, _Unmet([], [])
        while waiting and tried < MOST_TRIED:
            _, rungs = heapq.heappop(waiting)
            chosen = {t.name: sizes[k] for t, sizes, k in zip(self._tiers, ladders, rungs, strict=True)}
            unmet, tried = self._unmet(self._scenario, chosen), tried + 1
            if not unmet.missed and not unmet.undecided:
                return self._of(chosen, tried, self._unclear)
            if not unmet.missed and not self._unclear:
                goal = unmet.undecided[0]
                self._unclear = f"{self._replications} replications cannot tell whether {goal} is met with {sizes_text(chosen)}"
            for i, sizes in enumerate(ladders):
                larger = (*rungs[:i], rungs[i] + 1, *rungs[i + 1 :])
                if larger[i] < len(sizes) and larger not in seen:
                    seen.add(larger)
                    heapq.heappush(waiting, (sum(s[k] for s, k in zip(ladders, larger, strict=True)), larger))
        if waiting and self._unmet(self._scenario, today) == _Unmet([], []):
            return self._of(today, tried + 1, f"as it is; {tried} cheaper sizes were tried, and others between were not")
        why = f"none of {tried} sizes meets all goals; not met with {sizes_text(chosen)}: {'; '.join(unmet.missed or unmet.undecided)}"
        return Cheapest(None, math.nan, tried, f"{self._unclear}; ask for more" if self._unclear else why)

    def _of(self, sizes: dict[str, int], tried: int, why: str) -> Cheapest:
        return Cheapest(sizes, 24.0 * (sum(sizes.values()) + self._fixed), tried, why)

    @property
    def _own_goals(self) -> tuple[GoalParts, ...]:
        return tuple(g for g in self._scenario.goals if g.metric in OF_EACH_TIER and g.comparison in (">=", ">"))

    def _least(self, tier: Tier) -> int:
        """How many machines of a tier carry the demand and what the goals on capacity ask for, while all serve."""
        sure = [g.value for g in self._own_goals if g.chance is None or g.chance > 0]
        wanted = max([self._growth * self._scenario.environment.demand.peak_per_s, *sure])
        return max(carrying(self._scenario.environment, name, wanted) for name in tier.services)

    def _possible(self, tier: Tier) -> list[int]:
        """The sizes of a tier that carry the demand and with which the strategy runs, the others as they are today."""
        least, has = self._least(tier), len(tier.machines)
        return [n for n in range(least, max(least + MOST_MORE, has) + 1) if self._runs(tier, n)]

    def _worth_trying(self, tier: Tier, sizes: list[int]) -> tuple[list[int], list[str]]:
        """The *sizes* of a tier from the first on with which it meets the goals on capacity by itself, and what the last one misses."""
        env, missed = self._scenario.environment, list[str]()
        if not self._own_goals:
            return sizes, missed
        others = {n: s if n in tier.services else s.model_copy(update={"capacity_per_s": None}) for n, s in env.services.items()}
        by_itself = self._scenario.model_copy(update={"environment": env.model_copy(update={"services": others}), "goals": self._own_goals})
        for k, size in enumerate(sizes):
            if self._alone >= MOST_TRIED:
                return sizes[k:], missed
            self._alone += 1
            missed = self._unmet(by_itself, {tier.name: size}).missed
            if not missed:
                return sizes[k:], missed
        return [], missed

    def _runs(self, tier: Tier, size: int) -> bool:
        try:
            with_sizes(alone(self._scenario, self._strategy), {tier.name: size})
        except StudyError:
            return False
        return True

    def _unmet(self, scenario: Scenario, sizes: Mapping[str, int]) -> _Unmet:
        """The goals that are not met with these sizes; a metric without a value meets nothing."""
        try:
            outcome = simulate(self._plan(scenario, sizes), self._replications, self._seed)
        except StudyError as error:
            return _Unmet([str(error)], [])
        results = [r for r in outcome.goals() if not r.met]
        missed = [r.goal.text for r in results if r.met is False or r.probability is None]
        return _Unmet(missed, [r.goal.text for r in results if r.goal.text not in missed])

    def _plan(self, scenario: Scenario, sizes: Mapping[str, int]) -> Plan:
        """The plan with these sizes; the horizon is that of all strategies, as far as the others can run with them."""
        if scenario.horizon_s is None:
            with contextlib.suppress(StudyError):
                return build_plan(with_sizes(scenario, sizes, self._growth), self._strategy)
        return build_plan(with_sizes(alone(scenario, self._strategy), sizes, self._growth), self._strategy)
