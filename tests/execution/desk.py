"""An operator's desk in front of real boxes: plans of small scripts, carried out over ssh, and what became of them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from simdeploy.execution.hands import Limits
from simdeploy.execution.journal import Journal, read_journal
from simdeploy.execution.operating import Settings, begin, conduct, take_up
from simdeploy.execution.operator import Script
from simdeploy.execution.runner import Ending
from simdeploy.execution.transports import Ssh
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from tests.builders import farm
from tests.execution.boxes import Boxes, until

QUICK = Limits(step_s=20, look_s=2, reach_s=5, grace_s=0.3, poll_s=1)
SHORT = QUICK._replace(reach_s=1.5, poll_s=0.5)
"""Gives a silent host up soon."""


class Desk:
    """An operator's desk: plans of steps that append a line to a file on their box, carried out over ssh."""

    def __init__(self, folder: pathlib.Path, boxes: Boxes) -> None:
        self.folder, self.boxes = folder, boxes
        self.journal = folder / "journal"
        self.config = boxes.config
        self._pool = ThreadPoolExecutor(1)
        (folder / "effects").touch()

    def plan(self, *scripts: str, has_check: bool = True, in_turn: bool = True, **fields: Any) -> Plan:
        """One step for each script on w0, which appends its name when the script has succeeded."""
        steps: list[Step] = []
        for k, script in enumerate(scripts):
            run = ("sh", "-c", f"echo s{k} >> {self.folder}/began; {script}\necho s{k} >> {self.folder}/effects")
            check = ("grep", "-qsx", f"s{k}", f"{self.folder}/effects") if has_check else ()
            needs = tuple(s.id for s in steps[-1:]) if in_turn else ()
            steps.append(Step(id=f"work/w0/s{k}", on="w0", needs=needs, run=run, check=check, **fields))
        return Plan(environment=farm(2, 100.0, 50.0), steps=tuple(steps))

    @property
    def wait(self) -> str:
        """A script that goes on when the test says so."""
        return f"while ! test -e {self.folder}/go; do sleep 0.02; done"

    def go(self) -> None:
        (self.folder / "go").touch()

    def start(self, plan: Plan, limits: Limits = QUICK, **settings: Any) -> Future[Ending]:
        chosen = Settings(ssh_config=str(self.config), limits=limits, **settings)
        return self._conduct(plan, lambda: (begin(plan, self.journal, chosen), chosen))

    def resume(self, plan: Plan) -> Ending:
        return self._conduct(plan, lambda: take_up(plan, self.journal)).result(30)

    def _conduct(self, plan: Plan, journal: Callable[[], tuple[Journal, Settings]]) -> Future[Ending]:
        def conducted() -> Ending:
            opened, settings = journal()
            transport = Ssh(self.config, connect_s=1, alive_s=1)
            return conduct(plan, opened, settings, Script(), lambda _: True, transport=transport)

        return self._pool.submit(conducted)

    def until_began(self, k: int = 0) -> None:
        until(lambda: f"s{k}" in self._lines("began"))

    def done(self) -> list[str]:
        return self._lines("effects")

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [e.body for e in read_journal(self.journal) if e.kind == kind]

    def words(self) -> list[tuple[str, str]]:
        return [(r["word"], r["by"]) for r in self.bodies("result")]

    def _lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().split() if file.exists() else []

    def close(self) -> None:
        self._pool.shutdown()
