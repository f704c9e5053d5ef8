"""What monitoring sees of a state: which services it observes, and which new versions it has checks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from simdeploy.plan.layout import ABSENT, Layout

Versions = Sequence[Set[str | int]]
"""Of each service: the versions that its serving instances run."""


class Watching:
    """Which services the monitoring of a plan's environment observes, and what is new there since the start."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._monitors = [s for s, service in enumerate(layout.services) if service.role == "monitoring"]
        carrying = [s for s in range(len(layout.services)) if s not in self._monitors]
        self._carrying = carrying if self._monitors else []
        """The services of whose instances blind time counts: none without monitoring."""
        self._watched = [s for s in carrying if any(layout.services[m].observes_service(layout.service_names[s]) for m in self._monitors)]
        conditions = [(s, layout.conditions[code]) for s, code in zip(layout.service_of, layout.start_codes, strict=True)]
        there = [(s, condition.version) for s, condition in conditions if condition.mode != ABSENT]
        self._old = {(s, layout.services[s].version if layout.services[s].role == "datastore" else str(version)) for s, version in there}
        """(service, version) of what is there at the start; of a datastore, its schema."""

    def observed(self, versions: Versions) -> set[int]:
        """The services that some serving monitor observes."""
        layout, serving = self._layout, [m for m in self._monitors if versions[m]]
        return {s for s, name in enumerate(layout.service_names) if any(layout.services[m].observes_service(name) for m in serving)}

    def is_blind(self, versions: Versions, observed: Set[int]) -> bool:
        """Whether an instance of a service that is not *observed* serves."""
        return any(versions[s] and s not in observed for s in self._carrying)

    def is_unchecked(self, versions: Versions, schemas: Mapping[int, str | int]) -> bool:
        """Whether what serves has a version (of a datastore, a schema) that it did not have at the start and none has checks for."""
        for s in self._watched:
            running = {schemas[s]} if s in schemas and versions[s] else versions[s]
            if any((s, str(version)) not in self._old and not self._is_checked(s, version, versions) for version in running):
                return True
        return False

    def changes_unobserved(self, running: Set[int], observed: set[int]) -> bool:
        """Whether a step runs on any of the machines *running* of whose services none is *observed*."""
        services = ([self._layout.service_of[i] for i in self._layout.on_machine[machine]] for machine in running)
        return any(here and not observed.intersection(here) for here in services)

    def _is_checked(self, s: int, version: str | int, versions: Versions) -> bool:
        """Whether a serving monitor observes the service and has checks for this version of it."""
        services, name = self._layout.services, self._layout.service_names[s]
        return any(services[m].has_checks(own, name, version) for m in self._monitors for own in versions[m])
