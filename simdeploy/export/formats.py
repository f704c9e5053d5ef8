"""A plan in the form that somebody else reads."""

from __future__ import annotations

from simdeploy.environment.names import did_you_mean
from simdeploy.errors import PlanError
from simdeploy.export.flowchart import flowchart
from simdeploy.export.markdown import markdown
from simdeploy.export.pages import page
from simdeploy.export.playbook import inventory, playbook
from simdeploy.export.runbook import runbook
from simdeploy.export.script import script
from simdeploy.plan.findings import Vetting
from simdeploy.plan.forecast import Forecast
from simdeploy.plan.plan import Plan

FORMATS = ("markdown", "html", "ansible", "ansible-inventory", "shell", "mermaid")


def export(plan: Plan, to: str, vetting: Vetting | None = None, forecast: Forecast | None = None) -> str:
    """*plan* as a text of the form *to*, one of FORMATS.

    The runbooks (markdown, html) tell what vetting and forecast say, or that they are missing; the other forms do not read
    them. Raises PlanError for another form, where vetting or forecast are of another plan, and for what a form cannot carry.
    """
    if to not in FORMATS:
        raise PlanError(f"a plan is exported to no {to!r}; {did_you_mean(to, list(FORMATS))}")
    for what, given in (("vetting", vetting), ("forecast", forecast)):
        if given is not None and given.plan_sha256 != plan.digest:
            raise PlanError(
                f"the {what} is of the plan {given.plan_sha256[:12]}..., and this plan is {plan.digest[:12]}...; "
                "write both anew with 'simdeploy plan -o', or leave it out"
            )
    if to in ("markdown", "html"):
        book = runbook(plan, vetting, forecast)
        return markdown(book) if to == "markdown" else page(book)
    return {"ansible": playbook, "ansible-inventory": inventory, "shell": script, "mermaid": flowchart}[to](plan)
