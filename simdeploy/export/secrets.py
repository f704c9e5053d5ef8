"""Under which variable whoever runs an export must offer each secret; no export holds one."""

from __future__ import annotations

from simdeploy.plan.plan import Plan


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
