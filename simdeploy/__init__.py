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
    from simdeploy.plan.measurement import measure
    from simdeploy.plan.metrics import METRICS
    from simdeploy.plan.plan import Plan
    from simdeploy.plan.steps import Step
    from simdeploy.plan.trace import Trace
    from simdeploy.planning.base import Scenario
    from simdeploy.planning.kinds import build_plan
    from simdeploy.planning.loading import load_scenario
    from simdeploy.report.figures import capacity_figure, differences_figure, distributions_figure, gantt_figure
    from simdeploy.simulation.outcome import Outcome, simulate, trace
    from simdeploy.study.comparison import Comparison, compare
    from simdeploy.study.difference import Difference, difference
    from simdeploy.study.resilience import Resilience, resilience
    from simdeploy.study.robustness import Robustness, vary_inputs
    from simdeploy.vetting.vet import vet

_HOMES = {
    "METRICS": "plan.metrics",
    "Comparison": "study.comparison",
    "Difference": "study.difference",
    "Environment": "environment.models",
    "Outcome": "simulation.outcome",
    "Plan": "plan.plan",
    "Resilience": "study.resilience",
    "Robustness": "study.robustness",
    "Scenario": "planning.base",
    "SimdeployError": "errors",
    "Step": "plan.steps",
    "Trace": "plan.trace",
    "build_plan": "planning.kinds",
    "capacity_figure": "report.figures",
    "compare": "study.comparison",
    "difference": "study.difference",
    "differences_figure": "report.figures",
    "distributions_figure": "report.figures",
    "export": "export.formats",
    "gantt_figure": "report.figures",
    "load_environment": "environment.files",
    "load_scenario": "planning.loading",
    "measure": "plan.measurement",
    "resilience": "study.resilience",
    "simulate": "simulation.outcome",
    "Vetting": "plan.findings",
    "trace": "simulation.outcome",
    "vary_inputs": "study.robustness",
    "vet": "vetting.vet",
}
"""Public name -> the module it lives in; met on first use, so that `import simdeploy` costs nothing."""

__all__ = [
    "METRICS",
    "Comparison",
    "Difference",
    "Environment",
    "Outcome",
    "Plan",
    "Resilience",
    "Robustness",
    "Scenario",
    "SimdeployError",
    "Step",
    "Trace",
    "Vetting",
    "build_plan",
    "capacity_figure",
    "compare",
    "difference",
    "differences_figure",
    "distributions_figure",
    "export",
    "gantt_figure",
    "load_environment",
    "load_scenario",
    "measure",
    "resilience",
    "simulate",
    "trace",
    "vary_inputs",
    "vet",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'simdeploy' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(importlib.import_module(f"simdeploy.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
