"""The plan as an Ansible playbook: a play for each batch, and an inventory to go with it."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from simdeploy.export.batches import MACHINE, Batch, Entry, Part, generic, own, parts
from simdeploy.export.secrets import shell_variables
from simdeploy.export.words import effects_words, most_failures, visible
from simdeploy.plan.plan import GUARDS, Plan
from simdeploy.plan.steps import MAIN, ROLLBACK, Step

LOST = """\
What Ansible does not keep of what simdeploy's runner promises:
- The steps of a batch go in lockstep: one task on all its hosts, then the next. The forecast lets each lane run by itself.
- It knows neither forecast nor goals and measures nothing: nothing pauses when a goal is missed or the whole is late.
  Durations, capacity and findings are in the runbook.
- Ansible judges after every task that a host failed; here failures are kept and counted by the judge at the end of a batch.
- At most once is not kept on a lost connection: what nobody knows blocks nothing, a step without a check has failed.
- A time-out fails an attempt where the runner would pause, and leaves the command running on the host. A step without one
  may run for ever.
- After a fatal step or a halt nothing else begins, also not the rest of lanes that have begun.
- What was done (guards, results) is remembered within one run: begun anew, only the checks know, and a rollback begins with
  nothing to undo. Let a run end.
- Pools bound one task at a time, by `throttle`. A machine that dies is a host that fails.
- Secrets come from variables of the shell that starts Ansible, travel over the command's input, and may hold one line.
- A step by hand is a prompt; without a terminal Ansible does not wait for it. A gate without a command then says no.
What it keeps: the order of the batches, checks before steps, retries, time-outs, judges, gates, guards, rollback, forward rounds.

Run it with an inventory that knows every machine and localhost (`--to ansible-inventory`):
  ansible-playbook -i inventory.yaml playbook.yaml                      at once
  ansible-playbook -i inventory.yaml playbook.yaml -e confirm=true      asks before each batch
It exits 0 only if every step succeeded; a plan that was rolled back ends with a failed task that says so."""

NAMES_ONLY = """\
What an inventory does not keep of what simdeploy's runner promises: all of it. It has names alone; the playbook that it
goes with says what that loses."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./ ()=<>'\[\]|-]*[A-Za-z0-9_)\]]")
_WORDS_OF_YAML = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
DESK = "localhost"
PART, ABORT = "hostvars['localhost']['simdeploy_part']", "hostvars['localhost']['simdeploy_abort']"


class Unsafe(str):
    """A text that Ansible must not take for a template."""


class _Representer(RoundTripRepresenter):
    """Texts in quotes unless they are plain words in every version of YAML."""

    def text(self, value: str) -> ScalarNode:
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS_OF_YAML and len(value) < 100
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')

    def unsafe(self, value: str) -> ScalarNode:
        return self.represent_scalar("!unsafe", str(value), style='"')


_Representer.add_representer(str, _Representer.text)
_Representer.add_representer(Unsafe, _Representer.unsafe)


def _yaml(value: Any, comment: str) -> str:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.width = 150
    yaml.allow_unicode = False  # else it leaves some that nothing shows
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(value, out)
    return "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines()) + out.getvalue()


def literal(text: str) -> str:
    """*text* so that Ansible takes it as it is."""
    return Unsafe(text) if "{" in text else text


def inventory(plan: Plan) -> str:
    """An inventory of the plan's machines, as YAML; where they are reached is for its reader to say."""
    hosts: dict[str, Any] = {m.name: {} for m in plan.environment.machines} | {DESK: {"ansible_connection": "local"}}
    hint = f"The machines of the plan {plan.digest}.\nAdd ansible_host, ansible_user and so on where names are not enough.\n\n{NAMES_ONLY}"
    return _yaml({"all": {"hosts": hosts}}, hint)


def playbook(plan: Plan) -> str:
    """*plan* as a playbook; every text of the plan that could be a template is marked `!unsafe`."""
    sections = parts(plan)
    book = _Book(plan, sections)
    plays = [_opening(), *(play for section in sections for play in book.section(section)), book.closing()]
    title = visible(f"{plan.source.scenario or plan.environment.name}, {plan.source.strategy or 'no strategy named'}")
    return _yaml(plays, f"{title}\nPlan {plan.digest}\n\n{LOST}")


def _places(entries: Sequence[Entry]) -> dict[str, tuple[str, str]]:
    """Step -> (word, host), the same word for steps that are alike but for their host, wherever they stand."""
    words: dict[str, str] = {}
    places: dict[str, tuple[str, str]] = {}
    for entry in entries:
        for step, machine in zip(entry.steps, entry.machines, strict=True):
            told = generic(step.id, machine)
            if told not in words:
                word = re.sub(r"[^A-Za-z0-9]+", "_", told.replace(MACHINE, "").replace("@", "")).strip("_")[:40]
                words[told] = word if word and word not in words.values() else f"{word}_{len(words)}"
            places[step.id] = words[told], machine or DESK
    return places


def _opening() -> dict[str, Any]:
    return {
        "name": "Before the first batch",
        "hosts": DESK,
        "gather_facts": False,
        "tasks": [{"name": "nothing is aborted", "ansible.builtin.set_fact": {"simdeploy_part": 0, "simdeploy_abort": ""}}],
    }


class _Book:
    """The plays of one plan."""

    def __init__(self, plan: Plan, sections: Sequence[Part]) -> None:
        self.plan = plan
        self.variables = shell_variables(plan)
        entries = [e for p in sections for b in p.batches for e in b.entries]
        self.place = _places(entries)
        """Step -> the word in the names of its facts, and the host that has them."""
        self.words: dict[str, dict[str, list[str]]] = {}
        """Of the batch at hand: commands that are told for each host by itself."""
        self.counted: dict[int, list[str]] = {p.part: [] for p in sections}
        """Of each section: the steps whose failures count, so far."""

    def section(self, section: Part) -> Iterable[dict[str, Any]]:
        if section.part != MAIN:
            yield self._enter(section.part)
        for batch in section.batches:
            yield self._batch(section.part, batch)

    def _enter(self, part: int) -> dict[str, Any]:
        word = "rollback" if part == ROLLBACK else "forward"
        asked = f"{ABORT} == '{word}'" + ("" if part == ROLLBACK else f" and {PART} == {part - 1}")
        task = {
            "name": f"enter it if an abort asks for it: {word}",
            "ansible.builtin.set_fact": {"simdeploy_part": part, "simdeploy_abort": ""},
            "when": asked,
        }
        return {"name": "Rollback" if part == ROLLBACK else f"Forward, round {part}", "hosts": DESK, "gather_facts": False, "tasks": [task]}

    def closing(self) -> dict[str, Any]:
        ended = {
            "name": "how it ended",
            "ansible.builtin.fail": {"msg": f"{{{{ {ABORT} or 'rolled back' }}}}"},
            "when": f"{ABORT} != '' or {PART} == {ROLLBACK}",
        }
        failed = {"name": "what failed", "ansible.builtin.fail": {"msg": "steps failed"}}
        tasks = [ended]
        for part, counted in self.counted.items():
            if counted:
                tasks.append({**failed, "when": f"{PART} == {part} and {self._count('failed', counted)} > 0"})
        return {"name": "After the last batch", "hosts": DESK, "gather_facts": False, "tasks": tasks}

    def _batch(self, part: int, batch: Batch) -> dict[str, Any]:
        hosts = list(dict.fromkeys(m or DESK for e in batch.entries if e.first.kind != "judge" for m in e.machines)) or [DESK]
        ask = {"prompt": f"Go for batch {batch.number}? Enter for go; Ctrl-C and A for no-go"}
        tasks: list[dict[str, Any]] = [
            {"name": "not now", "ansible.builtin.meta": "end_play", "when": f"{PART} != {part} or {ABORT} != ''"},
            {"name": "go or no-go", "ansible.builtin.pause": ask, "when": "confirm | default(false) | bool"},
        ]
        self.words = {}
        for entry in batch.entries:
            if entry.first.kind == "judge":
                tasks += [self._judge(part, s, entry.number) for s in entry.steps]
            else:
                tasks += self._entry(entry, hosts)
                self.counted[part] += [s.id for s in entry.steps if s.kind == "step"]
        name = f"Batch {batch.number}" + (", with the POINT OF NO RETURN" if any(e.first.no_return for e in batch.entries) else "")
        words = {"vars": {"simdeploy_words": self.words}} if self.words else {}
        return {"name": name, "hosts": ",".join(hosts), "gather_facts": False, "ignore_unreachable": True, **words, "tasks": tasks}

    def _entry(self, entry: Entry, hosts: list[str]) -> list[dict[str, Any]]:
        step, (word, _) = entry.first, self.place[entry.first.id]
        mine = list(dict.fromkeys(m or DESK for m in entry.machines))
        when = [f"{ABORT} == ''"]
        when += [f"inventory_hostname in [{', '.join(map(repr, mine))}]"] if set(mine) != set(hosts) else []
        when += [self._test("ok", entry, step.needs, every=True)] if step.needs else []
        guards = self._guards(entry)
        found: list[dict[str, Any]] = []
        if guards:
            not_needed = f"not ({' and '.join(guards)})"
            fact = {"ansible.builtin.set_fact": {f"ok_{word}": True}}
            found.append({"name": f"{entry.number} is it needed at all?", **fact, "when": [*when, not_needed]})
        if not step.run and not step.check:
            found.append(self._prompt(entry, word))
        found.append(
            {"name": literal(_title(entry)), "when": [*when, *guards], "block": [*self._tasks(entry, word), self._result(entry, word)]}
        )
        if step.gate is not None:
            found.append(self._abort(f"{entry.number} gate", self._count("failed", [step.id]) + " > 0", step.gate.reaction))
        elif step.fatal:
            failed = self._count("failed", [s.id for s in entry.steps])
            found.append(self._abort(f"{entry.number} is fatal", f"{failed} > 0", self.plan.on_abort))
        return found

    def _result(self, entry: Entry, word: str) -> dict[str, Any]:
        done = self._done(entry, word)
        facts = {f"began_{word}": True, f"done_{word}": f"{{{{ {done} }}}}", f"ok_{word}": f"{{{{ {done} }}}}"}
        return {"name": f"{entry.number} its result", "ansible.builtin.set_fact": {**facts, f"failed_{word}": f"{{{{ not ({done}) }}}}"}}

    def _prompt(self, entry: Entry, key: str) -> dict[str, Any]:
        what = "is the release good? Type yes" if entry.first.gate else "; ".join(effects_words(entry.first)) or "see the runbook"
        return {
            "name": f"{entry.number} by hand",
            "ansible.builtin.pause": {"prompt": literal(visible(f"{entry.number} {entry.first.id}, by hand: {what}"))},
            "register": f"asked_{key}",
            "run_once": True,
            "when": f"{ABORT} == ''",
        }

    def _tasks(self, entry: Entry, key: str) -> list[dict[str, Any]]:
        """Check and command; what is by hand and has a check is waited for by it."""
        step = entry.first
        run = step.run or (step.check if step.kind == "gate" else ())
        tasks: list[dict[str, Any]] = []
        if step.expects:
            tasks.append(self._command(entry, "expects", "does it hold that") | {"changed_when": False, "any_errors_fatal": True})
        waits = not run and bool(step.check)
        if step.check and step.kind == "step":
            seen = {"register": f"check_{key}", "failed_when": False, "changed_when": False}
            tries = {"until": f"check_{key}.rc | default(1) == 0", "retries": _polls(step), "delay": 5} if waits else {}
            tasks.append(self._command(entry, "check", "is it there already") | seen | tries)
        if not run:
            return tasks
        limit: dict[str, Any] = {} if step.timeout_s is None else {"timeout": max(1, math.ceil(step.timeout_s))}
        if step.retries:
            limit |= {"retries": step.retries, "delay": round(step.retry_delay.mean_s), "until": f"run_{key}.rc | default(1) == 0"}
        room = [self.plan.pools[pool] // units for pool, units in step.pools if units]
        throttle = {"throttle": max(1, min(room))} if room else {}
        when = {"when": f"check_{key}.rc | default(1) != 0"} if step.check and step.kind == "step" else {}
        field = "run" if step.run else "check"
        doing = self._command(entry, field) | {"register": f"run_{key}", "ignore_errors": True} | when | limit | throttle
        return [*tasks, doing]

    def _command(self, entry: Entry, field: str, question: str = "") -> dict[str, Any]:
        """A task that runs the words of *field* without a shell, where the step wants it."""
        step = entry.first
        task: dict[str, Any] = {
            "name": literal(f"{_title(entry)}{', ' * bool(question)}{question}"),
            "ansible.builtin.command": {"argv": self._argv(entry, field), "expand_argument_vars": False},
        }
        if (step.on or DESK) != (entry.machines[0] or DESK):
            task["delegate_to"] = step.on or DESK
        if step.secrets:  # not as `environment`, which is printed at -vvv and stands in a command line on the host
            command = task["ansible.builtin.command"]
            lookups = [f"{{{{ lookup('ansible.builtin.env', '{self.variables[pair]}') }}}}" for pair in step.secrets.items()]
            reads = "".join(f"IFS= read -r {name}; export {name}; " for name in step.secrets)
            wrapped = ["sh", "-c", f'{reads}exec "$@" </dev/null', "sh"]
            argv = command["argv"]
            command["argv"] = [*wrapped, *argv] if isinstance(argv, list) else f"{{{{ {wrapped!r} + {argv.strip('{} ')} }}}}"
            command["stdin"] = "\n".join(lookups)
            task["no_log"] = True
        return task

    def _argv(self, entry: Entry, field: str) -> list[str] | str:
        words: tuple[str, ...] = getattr(entry.first, field)
        if len(entry.steps) == 1:
            return [literal(w) for w in words]
        alike = [generic(w, entry.machines[0]) for w in words]
        if any(MACHINE in w and not (w.replace(MACHINE, "").isprintable() and "{" not in w and "}" not in w) for w in alike):
            return self._by_host(entry, field)
        return [w.replace(MACHINE, "{{ inventory_hostname }}") if MACHINE in w else literal(w) for w in alike]

    def _by_host(self, entry: Entry, field: str) -> str:
        """The words of each host by themselves, where a template among them would be read as more than it is."""
        name = f"{field}_{self.place[entry.first.id][0]}"
        self.words[name] = {m or DESK: [Unsafe(w) for w in getattr(s, field)] for s, m in zip(entry.steps, entry.machines, strict=True)}
        return f"{{{{ simdeploy_words['{name}'][inventory_hostname] }}}}"

    def _guards(self, entry: Entry) -> list[str]:
        step = entry.first
        if step.part == MAIN:
            return []
        tests = {
            "began": ("began", False, ""),
            "unbegun": ("began", False, "not "),
            "done": ("done", True, ""),
            "undone": ("done", True, "not "),
        }
        named: dict[str, tuple[str, ...]] = {guard: getattr(step, guard) for guard in GUARDS}
        return [f"{no}{self._test(fact, entry, named[g], every)}" for g, (fact, every, no) in tests.items() if named[g]]

    def _test(self, fact: str, entry: Entry, names: tuple[str, ...], every: bool) -> str:
        """Whether all, or any, of the named steps have this fact, for each host of the entry."""
        mine = own(self.plan, entry.first, names)
        terms = [f"{fact}_{self.place[n][0]} | default(false)" for n, yes in zip(names, mine, strict=True) if yes]
        others = [n for n, yes in zip(names, mine, strict=True) if not yes]
        if others:
            terms.append(f"{self._count(fact, others)} {f'== {len(others)}' if every else '> 0'}")
        joined = (" and " if every else " or ").join(f"({t})" for t in terms)
        return f"({joined})"

    def _count(self, fact: str, ids: Sequence[str]) -> str:
        """How many of these steps have this fact."""
        hosts: dict[str, list[str]] = {}
        for i in ids:
            key, host = self.place[i]
            hosts.setdefault(key, []).append(host)
        terms = []
        for key, names in hosts.items():
            if len(names) == 1:
                terms.append(f"(hostvars['{names[0]}']['{fact}_{key}'] | default(false) | int)")
            else:
                listed = ", ".join(map(repr, names))
                found = f"map('extract', hostvars) | map(attribute='{fact}_{key}', default=false)"
                terms.append(f"([{listed}] | {found} | select | list | length)")
        return "(" + " + ".join(terms or ["0"]) + ")"

    def _done(self, entry: Entry, key: str) -> str:
        step = entry.first
        if step.gate is not None and not step.run and not step.check:
            return f"asked_{key}.user_input | default('') == 'yes'"
        if not step.run and not step.check:
            return "true"
        terms = [f"check_{key}.rc | default(1) == 0"] if step.check and step.kind == "step" else []
        if step.run or step.kind == "gate":
            terms.append(f"run_{key}.rc | default(1) == 0")
        if step.until_idle:
            terms.append(f"run_{key}.timedout is defined")
        return " or ".join(f"({t})" for t in terms)

    def _judge(self, part: int, step: Step, number: str) -> dict[str, Any]:
        assert step.judge is not None
        most = most_failures(step.judge)
        counted = self.counted[part] if step.judge.of in ("carried", "plan") else list(step.judge.watch)
        key, _ = self.place[step.id]
        when = "false" if most is None else f"{self._count('failed', counted)} > {most}"
        abort = self._abort(f"{number} judge", when, self.plan.on_abort)
        passed = {
            "name": f"{number} judge lets it pass", "ansible.builtin.set_fact": {f"ok_{key}": True}, "when": f"{ABORT} == ''",
            **self._at_the_desk(step),
        }  # fmt: skip
        return {"name": literal(f"{number} {visible(step.id)}"), "block": [abort, passed]}

    def _at_the_desk(self, step: Step | None = None) -> dict[str, Any]:
        host = self.place[step.id][1] if step else DESK
        return {"run_once": True, "delegate_to": host, "delegate_facts": True}

    def _abort(self, name: str, when: str, reaction: str) -> dict[str, Any]:
        final = [s.id for s in self.plan.steps if s.no_return]
        if reaction == "rollback":
            undoable = any(s.part == ROLLBACK for s in self.plan.steps)
            back = f"'halt' if {PART} == {ROLLBACK} or {self._count('began', final)} > 0 else 'rollback'" if undoable else "'halt'"
        else:
            back = f"'halt' if {PART} == {ROLLBACK} else '{reaction}'"
        return {
            "name": f"{name}: abort?",
            "ansible.builtin.set_fact": {"simdeploy_abort": f"{{{{ {back} }}}}"},
            "when": [f"{ABORT} == ''", when],
            **self._at_the_desk(),
        }


def _title(entry: Entry) -> str:
    step = entry.first
    final = "POINT OF NO RETURN: " if step.no_return else ""
    return f"{final}{entry.number} {visible(step.id)}" + (f" and {len(entry.steps) - 1} like it" if len(entry.steps) > 1 else "")


def _polls(step: Step) -> int:
    """How often to look for what is by hand, every 5 s: as long as its time-out, else an hour."""
    return max(1, math.ceil((step.timeout_s or 3600) / 5))
