"""The dependency graph is derived from the environment: an edge says who needs whom."""

from __future__ import annotations

import networkx as nx
import pytest

from simdeploy.environment.models import Environment
from simdeploy.errors import InvalidDocument
from tests.builders import canonical


def test_the_front_door_needs_every_machine_of_every_tier():
    graph = canonical().topology()

    assert {"lb1", "web1", "web2", "mid1", "mid2", "sql1"} == {
        n for n in nx.descendants(graph, "lb") if graph.nodes[n]["kind"] == "machine"
    }
    assert not nx.has_path(graph, "lb", "mon1")


def test_a_machine_needs_its_zone():
    machines = tuple(m.model_copy(update={"zone": "a"}) for m in canonical().machines)
    graph = canonical().model_copy(update={"machines": machines}).topology()

    assert nx.has_path(graph, "web@web1", "zone a")


def test_a_loop_of_services_is_named():
    data = canonical().model_dump()
    data["services"]["sql"]["calls"] = {"web": {"times": 1}}

    with pytest.raises(InvalidDocument, match=r"loop: .*(web -> mid -> sql -> web|mid -> sql -> web -> mid|sql -> web -> mid -> sql)"):
        Environment.model_validate(data)


def test_a_soft_dependency_is_not_critical():
    data = canonical().model_dump()
    data["services"]["mid"]["calls"]["sql"]["dependency"] = "soft"

    assert ("lb", "mid", "web") == Environment.model_validate(data).critical
