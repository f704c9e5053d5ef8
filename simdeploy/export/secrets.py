"""Under which variable whoever runs an export must offer each secret; no export holds one."""

from __future__ import annotations

import re

from simdeploy.errors import PlanError
from simdeploy.plan.plan import Plan

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def secret_variables(plan: Plan) -> dict[tuple[str, str], str]:
    """(name, reference) -> variable: the name itself, with a number where one name stands for several secrets."""
    wanted = dict.fromkeys(pair for step in plan.steps for pair in step.secrets.items())
    names = [name for name, _ in wanted]
    taken = set(names)
    variables: dict[tuple[str, str], str] = {}
    for name, reference in wanted:
        variable, k = name, 1
        while variable in variables.values() or (names.count(name) > 1 and variable in taken):
            variable, k = f"{name}_{k}", k + 1
        variables[name, reference] = variable
    return variables


def shell_variables(plan: Plan) -> dict[tuple[str, str], str]:
    """As `secret_variables`. Raises PlanError for a name that no variable of a shell can have."""
    variables = secret_variables(plan)
    for name, _ in variables:
        if not _NAME.fullmatch(name):
            fitting = re.sub(r"^(?=\d)", "_", re.sub(r"[^A-Za-z0-9_]", "_", name))
            raise PlanError(f"the secret {name!r} is no name of a shell's variable; use letters, digits and _, as in {fitting!r}")
    return variables
