"""What the figures show is what the comparison says; how they look is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from simdeploy.planning.kinds import build_plan
from simdeploy.planning.loading import load_scenario
from simdeploy.report.figures import PANELS, differences_figure, distributions_figure, gantt_figure
from simdeploy.simulation.outcome import trace
from simdeploy.study.comparison import Comparison, compare


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(load_scenario("scenarios/canonical/upgrade.yaml"), 40, strategies=["all-at-once", "drain-expand", "stop-expand"])


def with_downtimes(comparison: Comparison, downtimes: np.ndarray) -> Comparison:
    """The same, with other downtimes for drain-expand."""
    outcome = comparison.outcomes["drain-expand"]
    changed = outcome._replace(values=outcome.values | {"downtime_s": downtimes})
    return comparison._replace(outcomes=comparison.outcomes | {"drain-expand": changed})


def test_each_panel_has_a_line_for_each_strategy_that_reaches_all_runs_at_its_largest_value(comparison):
    figure = distributions_figure(comparison)
    makespan = figure.axes[2]

    assert len(PANELS) == len(figure.axes)
    assert [3, 3, 3] == [len(ax.lines) for ax in figure.axes]
    assert "makespan [min]" == makespan.get_xlabel()
    for line, outcome in zip(makespan.lines, comparison.outcomes.values(), strict=True):
        assert (outcome.values["makespan_s"].max() / 60, 1.0) == (pytest.approx(line.get_xdata()[-1]), line.get_ydata()[-1])


def test_values_that_span_decades_are_on_a_logarithmic_axis_and_zeros_stay_on_it(comparison):
    some_without = with_downtimes(comparison, np.where(np.arange(40) % 2, 0.0, 3.0))

    scales = [f.axes[0].get_xscale() for f in map(distributions_figure, (comparison, some_without))]
    marks = [t.get_text() for t in distributions_figure(some_without).axes[0].get_xticklabels()]

    assert ["log", "symlog"] == scales
    assert marks[:2] == ["0 s", "3 s"] and "10 min" in marks
    assert "linear" == distributions_figure(comparison).axes[2].get_xscale()


def test_the_differences_are_those_of_the_comparison_with_zero_in_sight(comparison):
    figure = differences_figure(comparison)
    downtime = figure.axes[0]

    points = [float(line.get_xdata()[0]) for line in downtime.lines if line.get_marker() == "o"]
    wanted = [comparison.difference(n, "downtime_s").mean / 60 for n in ("drain-expand", "stop-expand")]
    assert wanted == pytest.approx(points)
    assert ["drain-expand (recommended)", "stop-expand"] == [t.get_text() for t in downtime.get_yticklabels()]
    assert all(ax.get_xlim()[0] < 0 < ax.get_xlim()[1] for ax in figure.axes)


def test_a_single_run_has_no_interval_and_still_a_figure():
    one = compare(load_scenario("scenarios/canonical/upgrade.yaml"), 1, strategies=["all-at-once", "drain-expand"])

    assert 3 == len(differences_figure(one).axes) == len(distributions_figure(one).axes)


def test_a_chart_of_one_run_says_so_and_tells_the_way_back_from_the_way_forward():
    plan = build_plan(load_scenario("scenarios/fleet/upgrade-leak.yaml"), "none-back")

    mean, one = gantt_figure(plan).axes[0], gantt_figure(plan, trace(plan, 1)).axes[0]

    assert ["none-back: mean run", "none-back: one run"] == [ax.get_title(loc="left").partition(" (")[0] for ax in (mean, one)]
    labels = [t.get_text() for t in one.get_yticklabels()]
    assert "web@web1/drain" in labels and "rollback/api@api1/out-start" in labels
    assert len(labels) == len(set(labels))
