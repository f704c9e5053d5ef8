"""The runner: the plan decides, `progress` orders, the hands carry, the journal remembers. It never says more than is known.

One thread decides and writes; others only carry one step each and say what became of it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from simdeploy.errors import JournalError, LockedError
from simdeploy.execution.guards import Guards
from simdeploy.execution.hands import Hands, command_digest
from simdeploy.execution.history import History
from simdeploy.execution.journal import Entry, Journal, Kind, clock_s
from simdeploy.execution.operator import Answer, Operator, Question
from simdeploy.execution.outcomes import Outcome
from simdeploy.execution.requests import Request, done, waiting
from simdeploy.plan.forecast import Forecast
from simdeploy.plan.plan import Plan
from simdeploy.plan.progress import FAILED, NOT_NEEDED, SUCCEEDED, Result, order
from simdeploy.plan.steps import Step
from simdeploy.plan.trace import Trace
from simdeploy.units import format_s

TICK_S = 0.05
MOST_UNSENT = 3
"""How often an attempt that is certain not to have been started is made anew without counting."""
GATE_S = 3600.0
"""How long a manual step or gate without a time-out of its own waits for a person; then the run pauses."""


class Ending(NamedTuple):
    """How a run, or this part of it, ended."""

    outcome: str
    """success, partial, rolled_back or halted; else paused, unknown or interrupted, and there is something left to do."""
    why: str
    """What a person should know; the last sentence says what to type next."""
    trace: Trace


class _Later(NamedTuple):
    """When a step is looked at again, and what its next attempt then is."""

    at_s: float
    tries: int = 1
    must_know: bool = False


class Runner:
    """Carries out one plan, from wherever its journal stands."""

    def __init__(
        self, plan: Plan, hands: Hands, journal: Journal, history: History, operator: Operator, forecast: Forecast | None = None,
        forks: int = 10, samples: Callable[[], list[dict[str, object]]] = list,
    ) -> None:  # fmt: skip
        self._plan, self._hands, self._journal, self._history = plan, hands, journal, history
        self._operator, self._forks, self._samples = operator, forks, samples
        self._guards = Guards(plan, forecast, history)
        self._order = order(plan)
        self._where = plan.wiring.position
        self._events: queue.SimpleQueue[tuple[Step, Outcome]] = queue.SimpleQueue()
        self._busy: set[str] = set()
        """Steps that a thread carries."""
        self._later: dict[str, _Later] = {}
        """Steps that wait for a moment of the clock: before another attempt, or because to wait is what they do."""
        self._asked: dict[str, float] = {}
        """Steps that wait for a person, until when."""
        self._unknown: dict[str, Outcome] = {}
        self._pause = ""
        """Why nothing new begins but the rest of lanes that have begun; empty where it does."""
        self._signals = 0
        self._fenced = 0
        self._stopped: set[str] = set()
        """Steps whose processes were told to end."""

    def interrupt(self) -> None:
        """A first time: begin nothing more, let what runs end. A second time: end what runs. Safe in a signal handler."""
        self._signals += 1

    def run(self) -> Ending:
        """Go on until nothing is left to do, or nothing may be done.

        Raises JournalError where the journal cannot be written, and LockedError where somebody has taken over; what runs on
        hosts then goes on under its supervisors.
        """
        self._hands.is_called_off = lambda: self._signals > 0 or self._fenced > 0
        try:
            self._take_up()
            while True:
                self._heed()
                self._begin()
                if self._is_over():
                    return self._ending()
                self._wait()
        except JournalError as error:
            flying = ", ".join(sorted(self._busy)) or "nothing"
            raise JournalError(
                f"{error}; the plan has stopped. In flight: {flying}. Make room, then: simdeploy resume {self._journal.path}"
            ) from None
        finally:
            self._signals += 1  # threads that still look for their host give up

    # what begins

    def _take_up(self) -> None:
        """Settle what an earlier process has left in flight: ask receipts, then checks, then a person."""
        for body in self._history.unwritten:
            self._decided(body)
        for step_id in self._history.in_flight():
            step, result = self._step(step_id), self._history.results.get(step_id)
            if result is not None and result["word"] != "unknown":
                self._decide(step, Outcome(result["word"], result["detail"], result["by"], no_effect=result["no_effect"]))
            elif step_id in self._history.skips:
                self._end(step, NOT_NEEDED)
            elif not _is_sent(step):
                self._start(step)
            else:
                self._operator.tell(f"{step_id}: asking {step.on or 'this machine'} what became of it")
                self._carry(step, lambda s=step, n=self._history.attempts[step_id]: self._hands.settle(s, n))  # type: ignore[misc]
        self._advance()

    def _begin(self) -> None:
        """Begin what may begin now, each with its intent on the disk first."""
        if self._signals or self._fenced:
            return
        room = self._forks - len(self._busy)
        for i in self._history.progress.started_among(room, self._may) if room > 0 else ():
            step = self._plan.steps[i]
            self._intend(step, 1)
            if step.id in self._history.skips:
                self._end(step, NOT_NEEDED)
            else:
                self._start(step)

    def _may(self, i: int) -> bool:
        """A pause, or an unknown outcome, lets only the rest of lanes that have begun begin, so that no healthy instance stays out."""
        if not self._pause and not self._unknown:
            return True
        begun = {self._order.lane[self._where[s]] for s in self._history.attempts}
        return self._plan.steps[i].kind == "step" and self._order.lane[i] in begun

    def _intend(self, step: Step, tries: int) -> None:
        attempt = self._history.attempts.get(step.id, 0) + 1
        body: dict[str, Any] = {"step": step.id, "host": step.on, "attempt": attempt, "try": tries, "fence": self._hands.fence}
        entry = self._write("intent", **body, command=command_digest(step) if _is_sent(step) else None)
        self._operator.tell(self._guards.began(step, entry))

    def _start(self, step: Step, must_know: bool = False) -> None:
        """Let a step whose intent is written go on its way."""
        if _is_sent(step):
            attempt = self._history.attempts[step.id]
            self._carry(step, lambda: self._hands.carry_out(step, attempt, must_know))
        elif _waits(step):
            self._later[step.id] = _Later(clock_s() + step.duration.mean_s)
        else:
            what = "Is it done?" if step.kind == "step" else "May it go on?"
            self._ask(step, f"{step.id} is for a person{f' on {step.on}' if step.on else ''}. {what}", ("yes", "no"))

    def _carry(self, step: Step, act: Callable[[], Outcome]) -> None:
        def work() -> None:
            try:
                outcome = act()
            except Exception as error:  # whatever it is, the step's outcome is not known
                outcome = Outcome("unknown", f"internal error: {error!r}", by="runner")
            self._events.put((step, outcome))

        self._busy.add(step.id)
        threading.Thread(target=work, daemon=True, name=step.id).start()  # who ends for want of a journal does not wait for it

    # what ends

    def _wait(self) -> None:
        """Take what has ended, or let a tick pass."""
        try:
            while True:
                step, outcome = self._events.get(timeout=TICK_S if self._busy or self._later or self._asked else 0.0)
                self._busy.discard(step.id)
                self._note(step, outcome)
                self._decide(step, outcome)
                if self._events.empty():
                    break
        except queue.Empty:
            if not self._busy:
                time.sleep(TICK_S)
        now, is_left = clock_s(), self._history.progress.gives_up
        for step_id in [s for s, later in self._later.items() if later.at_s <= now or (is_left and not _waits(self._step(s)))]:
            self._due(self._step(step_id), self._later.pop(step_id))
        for step_id in [s for s, at in self._asked.items() if at <= now]:
            self._unanswered(self._step(step_id))

    def _note(self, step: Step, outcome: Outcome) -> None:
        self._fenced = max(self._fenced, outcome.fenced)
        attempt = self._history.attempts[step.id]
        self._write("result", step=step.id, attempt=attempt, **{k: v for k, v in outcome._asdict().items() if k != "fenced"})
        if outcome.word != "succeeded":
            self._operator.tell(f"  {step.id}: {outcome}" + "".join(f"\n    | {line}" for line in outcome.tail.splitlines()[-5:]))

    def _decide(self, step: Step, outcome: Outcome) -> None:
        """What follows from an attempt's outcome."""
        if self._fenced or (self._signals and outcome.word == "cancelled"):
            return  # its result is on the disk: whoever goes on decides
        if outcome.word == "unknown":
            self._block(step, outcome)
        elif outcome.word == "succeeded" or (outcome.word == "timed_out" and step.until_idle):
            self._end(step, SUCCEEDED)
        elif (later := self._another(step, outcome)) is not None:
            self._later[step.id] = later
        else:
            self._end(step, FAILED)
        if outcome.word == "timed_out" and not step.until_idle:
            self._pause_for(f"time-out:{step.id}", f"{step.id} was not done after its time-out")

    def _another(self, step: Step, outcome: Outcome) -> _Later | None:
        """The next attempt, if there is one; the same command is sent again only where that can do no harm."""
        tries, attempts = self._history.tries[step.id], self._history.attempts[step.id]
        may_know = bool(step.check) and step.kind == "step"
        is_safe = step.kind == "gate" or step.retry == "safe" or outcome.no_effect
        if self._history.progress.gives_up or not (is_safe or may_know):
            return None
        if outcome.word == "cancelled" and attempts - tries < MOST_UNSENT:  # by no fault of its own: it does not count
            return _Later(clock_s(), tries, must_know=not is_safe)
        return _Later(clock_s() + step.retry_delay.mean_s, tries + 1, must_know=not is_safe) if tries <= step.retries else None

    def _due(self, step: Step, later: _Later) -> None:
        """A moment has come for which a step waited."""
        if _waits(step):
            self._end(step, SUCCEEDED)
        elif self._history.progress.gives_up:
            self._end(step, FAILED)
        elif not self._signals:
            self._intend(step, later.tries)
            if step.until_idle:
                self._write("again", step=step.id)
            self._start(step, later.must_know)

    def _end(self, step: Step, result: Result) -> None:
        self._asked.pop(step.id, None)
        self._operator.withdraw(step.id)
        self._unknown.pop(step.id, None)
        entry = self._write("ended", step=step.id, result=result, by="runner")
        self._operator.tell(self._guards.ended(step, result, entry))
        self._advance()

    def _advance(self) -> None:
        """Write down what judges say, what is passed over, and which sections are left."""
        for body in self._history.advance():
            self._decided(body)

    def _decided(self, body: dict[str, Any]) -> None:
        if "reaction" in body:
            self._write("aborted", **body)
            self._operator.tell(f"{body['step']}: the plan aborts here: {body['reaction']}")
        else:
            self._write("ended", **body)
            if body["result"] == FAILED:
                self._operator.tell(f"{body['step']}: too much has failed")
        step_id = body["step"]
        if "result" in body and step_id in self._asked:  # an abort does not wait for a look
            del self._asked[step_id]
            self._operator.withdraw(step_id)

    # people

    def _ask(self, step: Step, text: str, answers: tuple[str, ...]) -> None:
        self._write("asked", step=step.id, text=text)
        self._asked[step.id] = clock_s() + (step.timeout_s or GATE_S)
        self._operator.ask(Question(step.id, text, answers))
        if not self._operator.is_there:
            self._operator.tell(f"  answer from another terminal: simdeploy answer {self._journal.path} {step.id} yes --because TEXT")

    def _block(self, step: Step, outcome: Outcome) -> None:
        """Nobody knows whether a step took effect: only a person may say so."""
        self._unknown[step.id] = outcome
        on = step.on or "this machine"
        text = f"Nobody knows whether {step.id} took effect on {on}: {outcome.detail}. Look there: did it?"
        self._write("asked", step=step.id, text=text)
        if self._operator.is_there:
            self._asked[step.id] = clock_s() + GATE_S
            self._operator.ask(Question(step.id, text, ("yes", "no", "later")))

    def _answered(self, answer: Answer) -> None:
        step_id = answer.key
        if step_id not in self._asked and step_id not in self._unknown:
            self._operator.tell(f"nothing was asked about {step_id}")
            return
        step = self._step(step_id)
        self._write("answered", step=step_id, answer=answer.word, who=answer.who, because=answer.because)
        self._asked.pop(step_id, None)
        if answer.word == "later":
            self._pause_for(f"unknown:{step_id}", f"{step_id} is unknown")
        elif step_id in self._unknown:
            word = "succeeded" if answer.word == "yes" else "failed"
            outcome = Outcome(word, f"{answer.who} says so: {answer.because}", by="person", no_effect=word == "failed")  # type: ignore[arg-type]
            del self._unknown[step_id]
            self._note(step, outcome)
            self._decide(step, outcome)
        else:
            self._end(step, SUCCEEDED if answer.word == "yes" else FAILED)

    def _unanswered(self, step: Step) -> None:
        """Nobody has answered in time: a gate with a time-out says no, everything else pauses."""
        del self._asked[step.id]
        self._operator.withdraw(step.id)
        if step.id not in self._unknown and step.kind == "gate" and step.timeout_s:
            self._write("answered", step=step.id, answer="no", who="nobody", because=f"no answer within {format_s(step.timeout_s)}")
            self._end(step, FAILED)
        else:
            self._pause_for(f"unanswered:{step.id}", f"nobody has answered about {step.id}")

    # what else happens

    def _heed(self) -> None:
        """Signals, requests, answers, guard rails, samples."""
        if self._signals > 1 and self._busy:
            for step_id in self._busy - self._stopped:
                self._stopped.add(step_id)
                step, attempt = self._step(step_id), self._history.attempts[step_id]
                threading.Thread(target=self._hands.stop, args=(step, attempt), daemon=True).start()
        for answer in self._operator.answers():
            self._answered(answer)
        for file, request in waiting(self._journal.path):
            if request is not None and request.step in self._busy and request.verb in ("answer", "skip"):
                continue  # what became of it is still being asked
            if request is not None:
                self._requested(request)
            done(file)
        for sample in self._samples():
            self._write("sampled", durable=False, **sample)
        for alarm in self._guards.look(clock_s(), self._busy):
            if alarm.pauses:
                self._pause_for(alarm.reason, alarm.text)
            else:
                self._write("warning", reason=alarm.reason, text=alarm.text)
                self._operator.tell(f"  warning: {alarm.text}")
        self._operator.show(self._guards.line(clock_s(), self._busy, self._pause))

    def _requested(self, request: Request) -> None:
        """Do what somebody asks from another terminal."""
        if request.verb in ("rollback", "abort"):  # the latest step that they saw begin stands for where it was left
            request = request._replace(step=next(reversed(self._history.attempts), ""))
        self._write("request", **request._asdict())
        said = f"{request.who} asks: {request.verb} {request.step}{f' ({request.because})' if request.because else ''}"
        self._operator.tell(said)
        if request.verb == "answer":
            self._answered(Answer(request.step, request.answer, request.who, request.because))
        elif request.verb == "skip":
            if request.step in self._unknown or request.step in self._asked or request.step in self._later:
                self._later.pop(request.step, None)
                self._end(self._step(request.step), NOT_NEEDED)
        elif request.verb == "pause" or not request.step:
            self._pause = self._pause or said
        else:
            self._pause = ""
            self._advance()

    def _pause_for(self, reason: str, text: str) -> None:
        if reason not in self._history.paused_for:
            self._write("pause", reason=reason, text=text)
            self._operator.tell(f"pausing: {text}; lanes that have begun run to their end")
            self._pause = self._pause or text

    def _write(self, kind: Kind, *, durable: bool = True, **body: object) -> Entry:
        """Write an entry, and let the history know it."""
        entry = self._journal.write(kind, durable=durable, **body)
        self._history.tell(entry)
        return entry

    # the end

    def _is_over(self) -> bool:
        if self._busy:
            return False
        if self._history.outcome is not None or self._signals or self._fenced:
            return True
        if self._later or (self._asked and not self._pause):
            return False
        return bool(self._pause or self._unknown) and not any(self._may(i) for i in self._history.progress.ready())

    def _ending(self) -> Ending:
        outcome, path = self._history.outcome, self._journal.path
        trace = self._history.chronicle.trace(outcome)
        if outcome is not None:
            return Ending(outcome, "", trace)
        if self._fenced:
            flying = ", ".join(self._history.in_flight()) or "nothing"
            raise LockedError(
                f"somebody has taken over this environment (fence {self._fenced}, ours is {self._hands.fence}); in flight: {flying}. "
                f"Ask them, then: simdeploy status {path}"
            )
        left = f"In flight or waiting: {', '.join([*self._history.in_flight()]) or 'nothing'}. Go on with: simdeploy resume {path}"
        if self._unknown:
            known = "; ".join(f"{step}: {outcome}" for step, outcome in self._unknown.items())
            says = f"simdeploy answer {path} {next(iter(self._unknown))} yes|no --because TEXT, then: simdeploy resume {path}"
            return Ending("unknown", f"Unknown: {known}. Look on the host, then: {says}", trace)
        if self._signals:
            return Ending("interrupted", f"Nothing new was begun after the signal. {left}", trace)
        return Ending("paused", f"{self._pause}. {left}", trace)

    def _step(self, step_id: str) -> Step:
        return self._plan.steps[self._where[step_id]]


def _is_sent(step: Step) -> bool:
    """Whether a step has something to execute."""
    return bool(step.run or (step.kind == "gate" and step.check))


def _waits(step: Step) -> bool:
    """Whether all that a step does is to last: a bake."""
    return step.kind == "step" and not (step.run or step.check or step.begin or step.end or step.on or step.target)
