"""Who leads a service when, as far as steps say so."""

from __future__ import annotations

from typing import NamedTuple

from simdeploy.vetting.section import Condition, Section, Spell


class Reign(NamedTuple):
    """A time in which a service is led by one instance, or (None) by nobody while a step moves the lead."""

    leader: int | None
    spell: Spell


def reigns(section: Section, service: str) -> list[Reign]:
    """Who leads *service* from event to event, were nothing to happen to a leader but what steps say of the lead."""
    index = section.shape.index
    first = section.start_leader(service)
    now = Condition("", "")
    found = [Reign(None if first is None else index[first], Spell(None, None, now, 1.0))]
    for event, value in section.service_events("lead", service):
        found[-1] = Reign(found[-1].leader, found[-1].spell._replace(until=event))
        found.append(Reign(None if value is None else index[value], Spell(event, None, now, 1.0)))
    return found
