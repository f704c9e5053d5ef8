"""Imports go only downwards, and each heavy library has one door. The layer table is the data of this test."""

from __future__ import annotations

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "simdeploy"

LAYERS = {
    "errors": 0,
    "units": 1,
    "tables": 1,
    "environment": 2,
    "plan": 3,
    "planning": 4,
    "simulation": 4,
    "vetting": 4,
    "execution": 4,
    "export": 4,
    "study": 5,
    "report": 6,
    "cli": 7,
    "__init__": 7,
    "__main__": 8,
}
DOORS = {
    "simpy": ("simulation/engine.py",),
    "ruamel": ("environment/loading.py", "export/playbook.py"),
    "matplotlib": ("report",),
    "click": ("cli",),
    "jinja2": ("export/pages.py",),
}
"""Library -> where it is met; YAML is read behind one door and written behind another."""
FILES = sorted(p for p in PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(tree: ast.AST) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_only_downwards(path):
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    tree = ast.parse(path.read_text())
    for module in imports(tree):
        if not module.startswith("simdeploy"):
            continue
        there = room(module)
        allowed = there == here or LAYERS[there] < LAYERS[here]
        assert allowed, f"{here} imports {module}: layer {LAYERS[here]} may import its own room and lower layers only"


@pytest.mark.parametrize("library", DOORS)
def test_each_heavy_library_has_one_door(library):
    users = {str(p.relative_to(PACKAGE)) for p in FILES for module in imports(ast.parse(p.read_text())) if module.split(".")[0] == library}

    assert users and all(any(user == door or user.startswith(f"{door}/") for door in DOORS[library]) for user in users)


def test_every_room_has_its_layer():
    rooms = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in FILES}

    assert rooms == set(LAYERS)
