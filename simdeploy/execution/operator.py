"""The person at the desk: what they are told, what they are asked, and how they answer. Never waits for them."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import NamedTuple, Protocol, TextIO

from simdeploy.execution.lock import who

Answers = tuple[str, ...]


class Question(NamedTuple):
    """Something that only a person can decide."""

    key: str
    """What it is about: a step, or `start`."""
    text: str
    answers: Answers
    """The words that answer it; the first letter will do."""


class Answer(NamedTuple):
    """What a person said."""

    key: str
    word: str
    who: str
    because: str = ""


class Operator(Protocol):
    """Whoever watches a run."""

    is_there: bool
    """Whether anybody could answer."""

    def tell(self, line: str) -> None:
        """Say something."""

    def show(self, line: str) -> None:
        """Say how it stands now, in place of what was shown before."""

    def ask(self, question: Question) -> None:
        """Put a question; the answer comes with `answers`."""

    def withdraw(self, key: str) -> None:
        """A question is no longer open."""

    def answers(self) -> list[Answer]:
        """The answers that have come since."""


class Terminal:
    """A person at a terminal; a question is answered by a line that begins with one of its words."""

    def __init__(self, source: TextIO | None = None, out: TextIO | None = None) -> None:
        self._in = source if source is not None else sys.stdin
        self._out = out if out is not None else sys.stderr
        self.is_there = bool(self._in) and self._in.isatty()
        self._shows = bool(self._out) and self._out.isatty()
        self._open: list[Question] = []
        self._line = ""

    def tell(self, line: str) -> None:
        """Print a line; control characters of other machines do not reach the terminal."""
        self._print(("\r\x1b[K" if self._shows and self._line else "") + visible(line) + "\n" + self._line)

    def show(self, line: str) -> None:
        """Print the state in one line that the next one replaces."""
        line = visible(line)[: max(20, _columns() - 1)]
        if self._shows and line != self._line:
            self._line = line
            self._print("\r\x1b[K" + line)

    def ask(self, question: Question) -> None:
        """Print the question; where several are open the oldest is answered first."""
        self._open.append(question)
        if len(self._open) == 1:
            self._put()

    def withdraw(self, key: str) -> None:
        """Forget a question."""
        first = self._open[0].key if self._open else None
        self._open = [q for q in self._open if q.key != key]
        if first == key and self._open:
            self._put()

    def answers(self) -> list[Answer]:
        """What was typed since, if it answers."""
        if not self._open or not self.is_there or not select.select([self._in], [], [], 0.0)[0]:
            return []
        line = self._in.readline()
        if not line:
            self.is_there = False
            return []
        word, _, because = line.strip().partition(" ")
        question = self._open[0]
        found = [a for a in question.answers if word and a.startswith(word.lower())]
        if len(found) != 1:
            self.tell(f"Please answer with {' or '.join(question.answers)}.")
            return []
        self.withdraw(question.key)
        return [Answer(question.key, found[0], who(), because)]

    def _put(self) -> None:
        question = self._open[0]
        self.tell(f"\n{question.text} [{'/'.join(question.answers)}]")

    def _print(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):  # nobody reads any more; the run goes on, its journal knows
            self._shows = False


class Script:
    """Answers from a function, and keeps what it is told: for notebooks and tests."""

    def __init__(self, answer: Callable[[Question], str | None] | None = None, tell: Callable[[str], None] | None = None) -> None:
        self.is_there = answer is not None
        self.told: list[str] = []
        self._answer, self._tell = answer, tell
        self._given: list[Answer] = []

    def tell(self, line: str) -> None:
        """Keep a line, and pass it on."""
        self.told.append(line)
        if self._tell is not None:
            self._tell(visible(line))

    def show(self, line: str) -> None:
        """Nobody looks."""

    def ask(self, question: Question) -> None:
        """Answer at once, or not."""
        word = self._answer(question) if self._answer else None
        if word is not None:
            self._given.append(Answer(question.key, word, who(), "answered by a program"))

    def withdraw(self, key: str) -> None:
        """Nothing is open."""

    def answers(self) -> list[Answer]:
        """What was answered since."""
        given, self._given = self._given, []
        return given


def visible(text: str) -> str:
    """*text* with control characters written out, line ends kept."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns
    except OSError:
        return 80
