"""How a plan's words are written where others read them: on a page, on a terminal, in a shell, in Markdown."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence
from fractions import Fraction

from simdeploy.errors import PlanError
from simdeploy.plan.effects import Effect
from simdeploy.plan.steps import Gate, Judge, Step
from simdeploy.units import format_s

_SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")

EFFECTS = {
    "drain": "{0} takes nothing new and finishes what it has",
    "out": "{0} is off the balancer and serves nothing",
    "kill": "{0} is gone without notice",
    "start": "{0} runs, and serves once its health check has risen",
    "serve": "{0} serves",
    "remove": "{0} is gone and its machine released",
    "version": "{0} runs version {1}",
    "weight": "the balancer gives {0} the weight {1}",
    "schema": "{0} has the schema {1}",
    "lead": "{0} is led by {1}",
    "point": "{0} could be restored to the moment at which this step began",
    "restore": "{0} holds what its best surviving copy held ({1})",
    "split": "every serving instance of {0} takes writes of its own",
    "join": "{0} has one primary again",
    "rewind": "{0} holds what its best copy of the time before {1} held",
    "open": "users arrive",
    "validated": "the service counts as restored",
}
"""Verb -> what holds afterwards, in words."""
_NOBODY = {"lead": "nobody, until the next step says who", "restore": "of any kind"}
SUBJECTS = {
    "new": "the instances of the new version",
    "old": "what ran before",
    "primary": "the release, wherever it serves",
    "monitoring": "what monitoring sees of the release",
}
REACTIONS = {
    "rollback": "roll back: go to the chapter Rollback",
    "forward": "go forward: on to the next round of fixes",
    "halt": "halt: let lanes that have begun end, begin nothing else",
}


def visible(text: str) -> str:
    r"""*text* on one line with nothing hidden: control characters and marks of direction as escapes.

    >>> visible("a\x1b[31mb\n")
    'a\\x1b[31mb\\n'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shell_word(text: str) -> str:
    r"""*text* as one word of a POSIX shell, whatever is in it; nothing hidden stands there in the raw.

    >>> shell_word("it's"), shell_word("\x1b[2J")
    ('\'it\'"\'"\'s\'', '"$(printf \'\\033\')"\'[2J\'')

    A newline stands for itself between quotes. Raises PlanError for a NUL, which no command line can carry.
    """
    if "\x00" in text:
        raise PlanError(f"{visible(text)[:60]!r} holds a NUL, which no command line can carry; drop it")
    words = []
    for hidden, run in itertools.groupby(text, key=lambda c: not c.isprintable() and c != "\n"):
        part = "".join(run)
        octal = "".join(f"\\{byte:03o}" for byte in part.encode())
        words.append(f"\"$(printf '{octal}')\"" if hidden else shlex.quote(part))
    return "".join(words) or "''"


def shell_line(argv: Sequence[str]) -> str:
    """*argv* as a command of a POSIX shell."""
    return " ".join(map(shell_word, argv))


def markdown_text(text: str) -> str:
    r"""*text* as Markdown that shows it as it is: no emphasis, link, table or HTML comes of it.

    >>> markdown_text("<b>|*x*")
    '&lt;b&gt;\\|\\*x\\*'
    """
    shown = _SPECIAL.sub(r"\\\1", visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return re.sub(r"(?i)(https?|ftp)(:)|(www)(\.)", lambda m: f"{m[1] or m[3]}&#{ord(m[2] or m[4])};", shown)


def markdown_line(text: str) -> str:
    """*text* as Markdown that shows it as it is where it begins a line: no list or heading comes of it either.

    >>> markdown_line("5. x"), markdown_text("5.61 s")
    ('&#53;. x', '5.61 s')
    """
    shown = markdown_text(text)
    return re.sub(r"^(\s*)([-+=:]|\d+(?=[.)]))", lambda m: f"{m[1]}&#{ord(m[2][0])};{m[2][1:]}", shown)


def markdown_code(text: str, in_table: bool = False) -> str:
    """*text* as inline code of Markdown, between more backticks than it holds."""
    shown = visible(text) or '""'
    if in_table:
        shown = shown.replace("|", "\\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"


def effect_words(effect: Effect) -> str:
    """What holds after an effect, as a sentence without its full stop."""
    verb, *arguments = (a if a is None else str(a) for a in effect)
    named = [a if a is not None else _NOBODY.get(str(verb), "") for a in (*arguments, *[None] * (2 - len(arguments)))]
    return EFFECTS[str(verb)].format(*named)


def effects_words(step: Step) -> tuple[str, ...]:
    """What is to be reached by a step: what holds when it begins and when it has ended, a sentence each."""
    begin = tuple(f"from its begin: {effect_words(e)}" for e in step.begin)
    return (*begin, *(f"in the end: {effect_words(e)}" for e in step.end))


def most_failures(judge: Judge) -> int | None:
    """How many failures a judge bears; None = any number.

    >>> most_failures(Judge(watch=(), size=20, limit=12, unit="percent"))
    2
    """
    if judge.of == "all_of_batch":
        return judge.size - 1
    if judge.limit is None:
        return None
    share = Fraction(judge.limit)
    return int(share if judge.unit == "count" else share * judge.size / 100)


def judge_words(judge: Judge) -> str:
    """When a judge aborts, in words."""
    most = most_failures(judge)
    if most is None:
        return "never stops, however many steps failed"
    whose = "all steps of this section so far" if judge.of in ("carried", "plan") else f"the {len(judge.watch)} steps of this batch"
    return f"stops as soon as {'any' if most == 0 else f'more than {most}'} of {whose} failed"


def gate_words(gate: Gate) -> tuple[str, ...]:
    """What a gate looks at and how well, and what follows when it says no."""
    finds = f"it finds a bad release with {gate.sensitivity:.0%} and takes a good one for bad with {gate.false_alarms:.0%}"
    return (f"looks at {SUBJECTS[gate.of]}; {finds}", f"if it says no: {REACTIONS[gate.reaction]}")


def takes_words(step: Step) -> str:
    """How long a step takes by its own recipe, where no forecast says it."""
    if step.until_idle:
        return f"until its last request has ended, at most {format_s(step.timeout_s or 0.0)}"
    return f"until the log of {step.replays} is replayed" if step.replays else f"{step.duration} an attempt"
