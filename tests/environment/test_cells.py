"""Which cells a file may state, and where each fault is reported."""

from __future__ import annotations

import pytest

from simdeploy.environment.files import load_environment
from simdeploy.errors import FileError

PAIR = """\
name: pair
machines: [{name: web1}, {name: web2}, {name: mid1}, {name: mid2}, {name: sql1}, {name: mon1}]
entry: web
demand: {rate: 10 req/s}
cells:
  a: {on: [web1, mid1]}
  b: {on: [web2, mid2]}
services:
  web: {on: [web1, web2], capacity: 20 req/s, calls: {mid: 1}}
  mid: {on: [mid1, mid2], capacity: 20 req/s, calls: {sql: 1}}
  sql: {on: [sql1], role: datastore}
  mon: {on: [mon1, web1], role: monitoring}
"""
A, B = "  a: {on: [web1, mid1]}", "  b: {on: [web2, mid2]}"


def read(folder, *changes: tuple[str, str], base: str = ""):
    text = PAIR
    for old, new in changes:
        assert 1 == text.count(old)
        text = text.replace(old, new)
    (folder / "pair.yaml").write_text(text)
    (folder / "other.yaml").write_text(base)
    return load_environment(folder / ("other.yaml" if base else "pair.yaml"))


def test_cells_get_equal_shares_and_pin_what_runs_in_them(tmp_path):
    env = read(tmp_path)

    assert {"a": 0.5, "b": 0.5} == env.cell_shares
    assert {"web", "mid"} == env.pinned
    assert {"web1": "a", "mid1": "a", "web2": "b", "mid2": "b"} == env.cell_of
    assert (False, "none") == (env.reroute, env.mixing)


def test_cells_may_state_their_shares(tmp_path):
    env = read(
        tmp_path, (A, "  a: {on: [web1, mid1], share: 30 %}"), (B, "  b: {on: [web2, mid2], share: {value: 70 %, assumed: a guess}}")
    )

    assert {"a": 0.3, "b": 0.7} == env.cell_shares
    assert ["cells.b.share"] == [i.at for i in env.inputs]


def test_a_pattern_stands_for_the_machines_of_a_cell(tmp_path):
    env = read(
        tmp_path,
        (A, "  a: {on: ['*1']}"),
        ("  sql: {on: [sql1], role: datastore}", "  sql: {on: [sql2], role: datastore}"),
        ("{name: sql1}", "{name: sql2}"),
    )

    assert ("web1", "mid1", "mon1") == env.cells["a"].on


def test_a_file_replaces_the_cells_of_the_one_that_it_stands_on(tmp_path):
    assert {} == read(tmp_path, base="like: pair.yaml\ncells: {}\n").cells
    assert ["a", "b"] == list(read(tmp_path, base="like: pair.yaml\n").cells)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (A, "  a: {on: [wbe1, mid1]}", 6, "cell 'a' has 'wbe1', which is no machine; did you mean 'web1'?"),
        (A, "  a: {on: [x*, mid1]}", 6, "no machine is called like 'x*'"),
        (A, "  a: {on: []}", 6, "cell 'a' has no machines; name at least one"),
        (B, "  b: {on: [web2, mid2, mid1]}", 7, "machine 'mid1' is in the cells 'a' and 'b'; a machine is in one cell, once"),
        (B, "  b: {on: [web2, mid2, mid2]}", 7, "machine 'mid2' is twice in this cell; a machine is in one cell, once"),
        (B, "  b: {on: [web2]}", 10, "'mid' runs on 'mid2', which is in no cell, and on machines that are in one"),
        ("on: [mid1, mid2]", "on: [mid1]", 10, "'mid' runs in cells, and not in 'b'; run it on a machine of every cell, or outside of all"),
        ("on: [sql1], role", "on: [web1, web2], role", 11, "'sql' is datastore and runs in cells; a cell with a datastore service of"),
        ("on: [mid1, mid2]", "role: quorum, on: [mid1, mid2]", 10, "'mid' is quorum and runs in cells"),
        (A, "  a: {on: [web1, mid1], share: 50 %}", 7, "cell 'b' states no share and 'a' does; state all of them or none"),
        ("name: pair", "name: pair\nmixing: error", 2, "did you mean 'errors'"),
    ],
)  # fmt: skip
def test_a_fault_of_a_cell_says_where_and_why(tmp_path, old, new, line, says):
    with pytest.raises(FileError) as caught:
        read(tmp_path, (old, new))

    assert any(f.line == line and says in f.message for f in caught.value.faults), caught.value


def test_shares_add_to_a_whole(tmp_path):
    with pytest.raises(FileError, match=r":5:1: the shares of the cells add to 90 %; make them add to 100 %, or state none"):
        read(tmp_path, (A, "  a: {on: [web1, mid1], share: 30 %}"), (B, "  b: {on: [web2, mid2], share: 60 %}"))


def test_to_reroute_needs_cells(tmp_path):
    with pytest.raises(FileError, match="there are no cells; add cells or drop reroute"):
        read(tmp_path, ("cells:\n", "reroute: true\n"), (f"{A}\n", ""), (f"{B}\n", ""))
