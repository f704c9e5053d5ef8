"""Each notebook runs from top to bottom in a fresh kernel; its own asserts hold its prose to its numbers."""

from __future__ import annotations

import ast
import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

import simdeploy

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)


def code_cells(path: pathlib.Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_in_a_fresh_kernel(path, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the kernel imports this checkout, as pytest itself does
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}})

    client.execute()  # raises CellExecutionError, with the cell and its traceback, at the first cell that fails


@each_notebook
def test_a_notebook_is_stored_without_outputs(path):
    stored = [cell.id for cell in code_cells(path) if cell.outputs or cell.execution_count is not None]

    assert [] == stored


@each_notebook
def test_a_notebook_uses_nothing_of_simdeploy_but_its_public_names(path):
    odd = []
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                odd += [alias.name for alias in node.names if alias.name.startswith("simdeploy.")]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "simdeploy":
                public = node.module == "simdeploy" and all(alias.name in simdeploy.__all__ for alias in node.names)
                odd += [] if public else [ast.unparse(node)]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "simdeploy":
                odd += [] if node.attr in simdeploy.__all__ else [f"simdeploy.{node.attr}"]

    assert [] == odd


@each_notebook
def test_a_notebook_ends_in_asserts(path):
    last = ast.parse(code_cells(path)[-1].source)

    assert any(isinstance(node, ast.Assert) for node in last.body)
