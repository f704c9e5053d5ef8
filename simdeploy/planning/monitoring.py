"""The monitoring deployment: other builds through the same machinery, alone or before, with or after the code that they watch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from simdeploy.errors import Problem
from simdeploy.planning.scenario import Upgrade


class MonitoringDeployment(Upgrade):
    """A deployment of monitoring, and of code beside it if it is named too; the order of a strategy says which comes first.

    Building one raises InvalidDocument with every rule that it breaks.
    """

    scenario: Literal["monitoring_deployment"]  # type: ignore[assignment]  # an upgrade in all but its name
    """What is done."""

    def problems(self) -> Iterator[Problem]:
        """Every rule of an upgrade that is broken, and that monitoring is deployed at all."""
        yield from super().problems()
        monitors = [n for n, s in self.environment.services.items() if s.role == "monitoring"]
        if not monitors:
            yield Problem(
                ("environment",), "nothing monitors here; give the environment a service with role: monitoring, or write scenario: upgrade"
            )
        elif not set(monitors) & {*self.to, *self.patch}:
            yield Problem(("to",), f"no monitoring service is changed; name {' or '.join(monitors)} here, or write scenario: upgrade")
