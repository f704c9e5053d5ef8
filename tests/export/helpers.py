"""A pair of boxes, plans on it whose commands write down how they were called, and texts that bite."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from hypothesis import strategies as st

from simdeploy.environment.durations import fixed
from simdeploy.export.formats import export
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Gate, Judge, Step
from tests.builders import farm

RECORDER = """\
import json, os, pathlib, sys
log, behaviour, *argv = sys.argv[1:]
with open(log, "a", encoding="utf-8", errors="surrogateescape") as out:
    out.write(json.dumps([argv, os.environ.get("TOKEN")]) + "\\n")
code, _, flag = behaviour.partition(":")
if code == "seen":
    sys.exit(0 if pathlib.Path(flag).exists() else 1)
if code == "times":
    count = sum(json.loads(line)[0] == argv for line in open(log, encoding="utf-8", errors="surrogateescape"))
    sys.exit(0 if count >= int(flag) else 1)
sys.exit(int(code))
"""
HOSTILE = (
    "", " ", "-", "-rf", "--", "it's", '"', "a b", "a\nb", "\n", "trailing\n", "`id`", "$(id)", "$HOME", "${IFS}", "~", "*", "?", "!",
    "\\", "\\n",
    "a|b", "a;b", "a&b", "a>b", "#", "%s", "%", "{{ 1 + 1 }}", "{% raw %}", "{#", "{{", "}}", "{", "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>", "&amp;", "\x1b[2J", "\r", "\t", "\x07", "\x7f",
    "\x85", "\u2028", "\u202eevil", "\u200b", "x" * 3000, "žluť 😀",
    "yes", "null", "1e3", "0x1F", "12:30", "- a", "a: b", "=", "A=b", "'; exit 0; '", "*/ --> ]]>", "!unsafe x", "http://evil/", "[a](b)",
)  # fmt: skip
"""Whatever a plan's words may hold but NUL."""
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))


def recorder(folder: pathlib.Path, behaviour: str, *argv: str) -> tuple[str, ...]:
    """A command that writes its words to `folder/log` and exits as told."""
    program = folder / "recorder.py"
    if not program.exists():
        program.write_text(RECORDER)
    return sys.executable, str(program), str(folder / "log"), behaviour, *argv


def log(folder: pathlib.Path) -> list[list[str]]:
    """The words of every call, in order."""
    path = folder / "log"
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if path.exists() else []
    return [json.loads(line)[0] for line in lines]


def words(folder: pathlib.Path) -> list[str]:
    """The calls as texts."""
    return [" ".join(argv) for argv in log(folder)]


def farm_plan(steps: list[Step], count: int = 2, **fields: Any) -> Plan:
    """A plan on *count* boxes w0, w1, ..."""
    return Plan(environment=farm(count, 100.0, 50.0), steps=tuple(steps), **fields)


def two_batches(folder: pathlib.Path, broken: str = "", reaction: str = "rollback", final: bool = False) -> Plan:
    """w0 and then w1 get version 2, each judged; a gate looks between them. *broken* names a step whose command fails.

    The rollback takes back what began: of an install that is done `back`, of one that is not `out`.
    """

    def run(name: str) -> dict[str, Any]:
        return {"run": recorder(folder, "1" if name == broken else "0", name)}

    steps: list[Step] = []
    for k, after in enumerate(((), ("gate",))):
        machine, instance = f"w{k}", f"web@w{k}"
        place: dict[str, Any] = {"target": instance, "on": machine}
        ids = f"code/{instance}/drain", f"code/{instance}/install"
        steps += [
            Step(id=ids[0], after=after, begin=(("drain", instance),), **place, **run(f"drain {machine}")),
            Step(
                id=ids[1], needs=ids[:1], end=(("version", instance, "2"), ("serve", instance)), no_return=final, **place,
                **run(f"install {machine}"),
            ),
            Step(id=f"code/web/judge#{k + 1}", kind="judge", after=ids[1:], judge=Judge(watch=ids, size=1)),
        ]  # fmt: skip
        if k == 0:
            gate = Gate(reaction="rollback" if reaction == "rollback" else reaction)  # type: ignore[arg-type]
            steps.append(Step(id="gate", kind="gate", needs=("code/web/judge#1",), gate=gate, **run("look")))
    for k in range(2):
        machine, instance = f"w{k}", f"web@w{k}"
        first, last = f"code/{instance}/drain", f"code/{instance}/install"
        back: dict[str, Any] = {
            "section": "rollback",
            "target": instance,
            "on": machine,
            "end": (("version", instance, "1"), ("serve", instance)),
        }
        steps += [
            Step(id=f"rollback/{instance}/out", began=(first,), undone=(last,), **back, **run(f"out {machine}")),
            Step(id=f"rollback/{instance}/back", done=(last,), **back, **run(f"back {machine}")),
        ]
    return farm_plan(steps, on_abort="rollback")


def rounds(folder: pathlib.Path, bad: int) -> Plan:
    """A gate that finds the first *bad* of main and one forward round bad: on to round 1, and from there back."""

    def part(k: int, reaction: Any) -> list[Step]:
        place: dict[str, Any] = {"section": "forward", "round": k} if k else {}
        install = f"part{k}/web@w0/install"
        return [
            Step(id=install, target="web@w0", on="w0", duration=fixed(1), run=recorder(folder, "0", f"install {k}"), **place),
            Step(
                id=f"part{k}/gate", kind="gate", needs=(install,), gate=Gate(reaction=reaction), **place,
                run=recorder(folder, str(int(k < bad)), f"look {k}"),
            ),
        ]  # fmt: skip

    back = Step(id="rollback/web@w0", section="rollback", began=("part1/web@w0/install",), run=recorder(folder, "0", "back"))
    of_main = {"began": ("part0/web@w0/install",), "unbegun": ("part1/web@w0/install",)}
    never = Step(id="rollback/of-main", section="rollback", run=recorder(folder, "0", "back from main alone"), **of_main)
    return farm_plan([*part(0, "forward"), *part(1, "rollback"), back, never], on_abort="rollback")


def shell(plan: Plan, folder: pathlib.Path, *options: str, answers: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """The exported script, run by sh in *folder*."""
    (folder / "plan.sh").write_text(export(plan, "shell"), encoding="utf-8")
    return subprocess.run(
        ["sh", "plan.sh", *options], cwd=folder, input=answers, capture_output=True, text=True, timeout=120,
        env={**os.environ, **variables},
    )  # fmt: skip


def ansible(plan: Plan, folder: pathlib.Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The exported playbook, run by ansible-playbook in *folder* with every machine on this one."""
    (folder / "plan.yaml").write_text(export(plan, "ansible"), encoding="utf-8")
    (folder / "inventory.yaml").write_text(export(plan, "ansible-inventory"), encoding="utf-8")
    here = ["-i", "inventory.yaml", "-e", "ansible_connection=local", "-e", f"ansible_python_interpreter={sys.executable}"]
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    settings = {"ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_LOCALHOST_WARNING": "False", "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [str(program), *here, *options, "plan.yaml"], cwd=folder, capture_output=True, text=True, timeout=250, stdin=subprocess.DEVNULL,
        env={**os.environ, **settings, **variables},
    )  # fmt: skip
