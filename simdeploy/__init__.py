"""simdeploy forecasts deployments of multi-tier services before anything is touched.

    >>> import simdeploy
    >>> scenario = simdeploy.load_scenario("scenarios/canonical/upgrade.yaml")
    >>> comparison = simdeploy.compare(scenario, replications=100)
    >>> comparison.recommended
    'drain-expand-parallel'

Five nouns: an Environment (what is there), a Plan (what shall be done), a Trace (what happened, simulated or
real), an Outcome (what to expect of a plan) and a Comparison (of rival plans). Every verb is a function of these.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simdeploy.environment.files import load_environment
    from simdeploy.environment.models import Environment
    from simdeploy.errors import SimdeployError
    from simdeploy.export.formats import export
    from simdeploy.plan.findings import Vetting
    from simdeploy.plan.following import measure
    from simdeploy.plan.metrics import METRICS
    from simdeploy.plan.plan import Plan
    from simdeploy.plan.steps import Step
    from simdeploy.plan.trace import Trace
    from simdeploy.planning.base import Scenario
    from simdeploy.planning.kinds import build_plan
    from simdeploy.planning.loading import load_scenario
    from simdeploy.report.capacity_figures import growth_figure, headroom_figure, windows_figure
    from simdeploy.report.explanation_figures import tornado_figure, worst_figure
    from simdeploy.report.figures import capacity_figure, differences_figure, distributions_figure, gantt_figure
    from simdeploy.report.page import report_page
    from simdeploy.simulation.outcome import Outcome, simulate, trace
    from simdeploy.simulation.results import Results, load_results, save_results
    from simdeploy.study.capacity import Capacity, capacity
    from simdeploy.study.comparison import Comparison, compare, ranked
    from simdeploy.study.criticality import Criticality, criticality
    from simdeploy.study.difference import Difference, difference
    from simdeploy.study.dossier import write_plan
    from simdeploy.study.explanation import Explanation, explain
    from simdeploy.study.resilience import Resilience, resilience
    from simdeploy.study.robustness import Robustness, vary_inputs
    from simdeploy.study.running import Ran, resume, run
    from simdeploy.vetting.vet import vet

_HOMES = {
    "METRICS": "plan.metrics",
    "Capacity": "study.capacity",
    "Comparison": "study.comparison",
    "Criticality": "study.criticality",
    "Difference": "study.difference",
    "Environment": "environment.models",
    "Explanation": "study.explanation",
    "Outcome": "simulation.outcome",
    "Plan": "plan.plan",
    "Ran": "study.running",
    "Resilience": "study.resilience",
    "Results": "simulation.results",
    "load_results": "simulation.results",
    "save_results": "simulation.results",
    "ranked": "study.comparison",
    "Robustness": "study.robustness",
    "Scenario": "planning.base",
    "SimdeployError": "errors",
    "Step": "plan.steps",
    "Trace": "plan.trace",
    "build_plan": "planning.kinds",
    "capacity": "study.capacity",
    "growth_figure": "report.capacity_figures",
    "headroom_figure": "report.capacity_figures",
    "windows_figure": "report.capacity_figures",
    "capacity_figure": "report.figures",
    "compare": "study.comparison",
    "criticality": "study.criticality",
    "difference": "study.difference",
    "differences_figure": "report.figures",
    "distributions_figure": "report.figures",
    "explain": "study.explanation",
    "export": "export.formats",
    "gantt_figure": "report.figures",
    "load_environment": "environment.files",
    "load_scenario": "planning.loading",
    "measure": "plan.following",
    "report_page": "report.page",
    "resilience": "study.resilience",
    "resume": "study.running",
    "run": "study.running",
    "simulate": "simulation.outcome",
    "Vetting": "plan.findings",
    "tornado_figure": "report.explanation_figures",
    "trace": "simulation.outcome",
    "vary_inputs": "study.robustness",
    "vet": "vetting.vet",
    "worst_figure": "report.explanation_figures",
    "write_plan": "study.dossier",
}
"""Public name -> the module it lives in; met on first use, so that `import simdeploy` costs nothing."""

__all__ = [
    "METRICS",
    "Capacity",
    "Comparison",
    "Criticality",
    "Difference",
    "Environment",
    "Explanation",
    "Outcome",
    "Plan",
    "Ran",
    "Resilience",
    "Results",
    "Robustness",
    "Scenario",
    "SimdeployError",
    "Step",
    "Trace",
    "Vetting",
    "build_plan",
    "capacity",
    "capacity_figure",
    "compare",
    "criticality",
    "difference",
    "differences_figure",
    "distributions_figure",
    "explain",
    "export",
    "gantt_figure",
    "growth_figure",
    "headroom_figure",
    "load_environment",
    "load_results",
    "load_scenario",
    "measure",
    "ranked",
    "report_page",
    "resilience",
    "resume",
    "run",
    "save_results",
    "simulate",
    "tornado_figure",
    "trace",
    "vary_inputs",
    "vet",
    "windows_figure",
    "worst_figure",
    "write_plan",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'simdeploy' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(importlib.import_module(f"simdeploy.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
