"""What vetting says of a plan: findings with their witnesses, and the floors that it proved.

The values stand here, below the rooms that make and show them, so that a runbook and a runner can carry them.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import ValidationError

from simdeploy.environment.base import Frozen
from simdeploy.errors import PlanError
from simdeploy.tables import mime_bundle

Severity = Literal["error", "warning", "note"]
"""error: an invariant is broken; warning: nobody can tell whether it holds; note: true, worth knowing, and no finding."""


class Witness(Frozen):
    """A reachable state that shows the finding: which steps had begun and ended, and how the environment then stands.

    Everything before a step that has ended has ended too, so the last ones of each path stand for all.
    """

    ended: tuple[str, ...] = ()
    """The last steps that have ended."""
    running: tuple[str, ...] = ()
    """Steps that have begun and not ended."""
    failed: tuple[str, ...] = ()
    """Steps that have failed, which the plan tolerates."""
    lost: tuple[str, ...] = ()
    """Machines that are lost."""
    rolled_back_after: tuple[str, ...] = ()
    """In a rollback: the last main steps that had ended when the plan was aborted."""
    state: dict[str, str] = {}
    """Instance -> how it stands, where it is not as at the start; `service` -> a service's attribute that differs."""


class Finding(Frozen):
    """One thing that is wrong with a plan, or worth knowing of it."""

    id: str
    """`invariant/subject`, unique in its plan."""
    severity: Severity
    invariant: str
    """Which of the invariants in the table of vetting."""
    subject: str
    """The instance, service, step or machine that it is about."""
    message: str
    """What is wrong, with the value and the rule."""
    cure: str
    """What would mend it."""
    witness: Witness | None = None

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.plan.overview import one_finding

        return mime_bundle(one_finding(self))


class Floor(Frozen):
    """The least that one service, or the front door (service ""), serves whatever the timing; None = it does not limit."""

    service: str
    start_per_s: float | None
    """In the start state [req/s at the front door]."""
    least_per_s: float | None
    """For every timing."""
    kept_per_s: float | None
    """For every timing but while the plan locks something or moves a lead, as it declares; so are the next three."""
    failures_per_s: float | None
    """With the failures that the plan tolerates added up."""
    machine_lost_per_s: float | None
    """With any one machine lost as well."""
    zone_lost_per_s: float | None
    """With any one zone lost as well; None also where there are no zones."""


class Vetting(Frozen):
    """The result of vetting one plan."""

    format: Literal[1] = 1
    plan_sha256: str
    """Digest of the plan that was vetted."""
    tool: str
    """Version of simdeploy."""
    findings: tuple[Finding, ...] = ()
    """Errors and warnings first, then notes."""
    accepted: tuple[str, ...] = ()
    """Risk that was there before the plan, a sentence each."""
    floors: tuple[Floor, ...] = ()
    """By service, the front door first."""

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing but notes."""
        return all(f.severity == "note" for f in self.findings)

    def to_json(self) -> str:
        """The result as JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Vetting:
        """The result that `to_json` wrote. Raises PlanError for anything else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise PlanError(f"is no result of vetting ({error.error_count()} faults); write it anew with 'simdeploy plan -o'") from None

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from simdeploy.plan.overview import findings

        return mime_bundle(findings(self))
