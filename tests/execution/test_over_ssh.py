"""Over a real sshd: floods, odd bytes, endless commands, crowds, keys, kills and secrets."""

from __future__ import annotations

import pathlib
import re
import resource
import shlex
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

from simdeploy.cli import main
from simdeploy.errors import PlanError
from simdeploy.execution.journal import read_journal
from simdeploy.execution.transports import MOST_AT_ONCE, Ssh
from simdeploy.execution.trust import strangers
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Step
from simdeploy.study.dossier import dossier, write_dossier
from tests.builders import farm
from tests.execution.boxes import Relay, cmdlines, memory_kb, until
from tests.execution.test_processes import Desk as Terminal

pytestmark = pytest.mark.slow
MOST_KB = 64_000
"""What a hundred megabytes of output may cost in memory: a Python and some buffers."""


class Sampler(threading.Thread):
    """Looks at something again and again until it is left."""

    def __init__(self, look) -> None:
        super().__init__(daemon=True)
        self._look, self._is_over = look, threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(0.02):
            self._look()

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.join()


def test_whatever_a_command_prints_and_however_it_ends_the_outcome_says_so(far_desk):
    scripts = (r"printf '\377\376 \303\244'", "exit 255; :", "kill -9 $$", "echo 'simdeploy-reply 0 {}' >&2; exit 7")
    plan = far_desk.plan(*scripts, has_check=False, in_turn=False)
    assert far_desk.start(plan).result(30).outcome == "partial"

    found = {r["step"][-2:]: r for r in far_desk.bodies("result")}
    assert found["s0"]["word"] == "succeeded" and found["s0"]["tail"] == "\\xff\\xfe ä"
    assert [f"{found[s]['word']} {found[s]['detail']}" for s in ("s1", "s2", "s3")] == [
        "failed exit code 255",
        "killed SIGKILL",
        "failed exit code 7",
    ]


def test_a_hundred_megabytes_of_output_cost_a_megabyte_of_disk_and_little_memory(far_desk, box):
    kept, memory = [0], [0]

    def look() -> None:
        kept.append(sum(f.stat().st_size for r in box.receipts() for f in r.glob("output")))
        memory.extend(memory_kb(pid) for pid in box.processes())

    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Sampler(look):
        ending = far_desk.start(far_desk.plan("head -c 100000000 /dev/zero | tr '\\0' x; sleep 0.2", has_check=False)).result(60)

    assert ending.outcome == "success" and far_desk.bodies("result")[0]["tail"] == "x" * 2048
    assert max(kept) == 1_000_000 and 0 < max(memory) < MOST_KB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < MOST_KB


def test_a_command_that_never_ends_is_ended_with_all_that_it_has_started(far_desk, box):
    plan = far_desk.plan("trap '' TERM; sleep 600 & (trap '' TERM; sleep 600) & sleep 600", has_check=False, timeout_s=1)
    began = time.monotonic()
    ending = far_desk.start(plan).result(30)

    assert ending.outcome == "partial" and far_desk.words() == [("timed_out", "receipt")] and time.monotonic() - began < 10
    assert [p["reason"] for p in far_desk.bodies("pause")] == ["time-out:work/w0/s0"]
    until(lambda: box.processes() == [], 5)


def test_of_a_crowd_on_one_host_five_have_a_session_and_to_wait_for_one_is_not_silence(boxes, box):
    transport = Ssh(boxes.config)

    def look(seconds: float, patience_s: float) -> int:
        order = {"op": "look", "argv": ["sleep", str(seconds)], "deadline_s": 20.0}
        return int(transport.carry("w0", order, patience_s)["code"])

    with ThreadPoolExecutor(24) as pool:
        long = [pool.submit(look, 2.5, 30.0) for _ in range(5)]
        until(lambda: box.sessions_at_once() == 5)
        waiting = [pool.submit(look, 0.0, 2.0), *(pool.submit(look, 0.1, 30.0) for _ in range(18))]
        assert [f.result() for f in (*long, *waiting)] == [0] * 24
    transport.close()

    assert box.sessions_at_once() == MOST_AT_ONCE == 5 and len(box.relay.connects) == 1


def test_logins_are_paced_the_first_ones_and_those_after_a_failure_of_the_network(boxes, box, tmp_path):
    """Thirty hosts behind one sshd, as behind a jump host, which drops some of thirty that come at once."""
    relays = [Relay(box.address, box.port) for _ in range(30)]
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text("many " + box.known_as.split(" ", 1)[1])
    many = f"  HostName {box.address}\n  HostKeyAlias many\n"
    hosts = {f"h{k}": f"Host h{k}\n  Port {relay.port}\n{many}" for k, relay in enumerate(relays)}
    transport = Ssh(boxes.configure(tmp_path / "config", known_hosts, "".join(hosts.values())))
    ask = {"op": "holder", "environment": "e", "run": "r"}
    with ThreadPoolExecutor(len(hosts)) as pool:
        for _ in range(2):
            replies = list(pool.map(lambda host: transport.carry(host, ask, 30.0), hosts))
            assert replies == [{"by": None, "fence": 0}] * len(hosts)
            assert [len(relay.connects) for relay in relays] == [1] * len(hosts)
            for relay in relays:
                relay.reset()
            time.sleep(0.5)  # until ssh has seen it
    transport.close()
    for relay in relays:
        relay.close()


def test_a_host_behind_a_jump_host_is_reached_through_it(boxes, far_desk, tmp_path):
    far_desk.config = boxes.configure(tmp_path / "config", boxes.known_hosts, "Host w0\n  ProxyJump w1\n")
    assert far_desk.start(far_desk.plan("true", has_check=False)).result(30).outcome == "success"
    assert far_desk.done() == ["s0"] and [len(box.relay.connects) for box in boxes] == [1, 1]
    assert boxes[1].sessions_at_once() == 0 and any(boxes[0].state.glob("*/fences/*")) and not boxes[1].state.exists()


class Console:
    """A terminal in which commands are typed, with known hosts of its own."""

    def __init__(self, folder: pathlib.Path, boxes) -> None:
        self.known_hosts = folder / "known_hosts"
        self.config = boxes.configure(folder / "config", self.known_hosts)
        self.plan_file = folder / "plan.json"
        step = Step(id="work/w0/s0", on="w0", run=("true",))
        write_dossier(dossier(Plan(environment=farm(1, 100.0, 50.0), steps=(step,)), 20), self.plan_file)

    def __call__(self, *words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, [*words, "--ssh-config", str(self.config)])
        return done.exit_code, " ".join(done.output.split())

    def check(self) -> tuple[int, str]:
        return self("run", str(self.plan_file), "--check")

    def run(self) -> tuple[int, str]:
        return self("run", str(self.plan_file), "--journal", str(self.plan_file.with_name("journal")), "--accept-findings", "--yes")

    def trust(self, *more: str) -> tuple[int, str]:
        return self("hosts", "trust", str(self.plan_file), *more)


@pytest.fixture
def console(tmp_path, boxes) -> Iterator[Console]:
    yield Console(tmp_path, boxes)
    boxes.know()


def fingerprint(box) -> str:
    said = subprocess.run(["ssh-keygen", "-lf", box.host_key.with_suffix(".pub")], capture_output=True, text=True, check=True)
    return said.stdout.split()[1]


def test_an_unknown_host_is_refused_until_its_fingerprint_was_shown_and_trusted(console, box):
    code, said = console.check()
    assert code == 3 and "Host key verification failed" in said and "simdeploy hosts trust" in said

    code, said = console.run()
    assert code == 3 and "the lock cannot be taken" in said and "simdeploy hosts trust" in said
    code, said = console.trust()
    assert code == 9 and fingerprint(box) in said and "Nothing was trusted" in said and not console.known_hosts.exists()
    assert console.check()[0] == 3
    code, said = console.trust("--yes")
    assert code == 0 and fingerprint(box) in said and "Trusted: w0" in said
    assert console.known_hosts.read_text() == box.known_as
    assert console.check()[0] == 0 and console.trust() == (0, "All hosts are known.")


def test_a_host_that_shows_another_key_is_refused_and_what_is_said_to_type_mends_it(console, box):
    console.known_hosts.write_text(box.known_as)
    box.kill_sshd()
    box.make_host_key()
    box.start()

    code, said = console.check()
    assert code == 3 and "IDENTIFICATION HAS CHANGED" in said and "simdeploy hosts trust" in said, said
    code, said = console.trust("--yes")
    assert code == 3 and "another key than the one in" in said and fingerprint(box) not in console.known_hosts.read_text()
    forget = re.search(r"(ssh-keygen -f \S+ -R \S+?), then this command again", said)
    assert forget, said
    subprocess.run(shlex.split(forget[1]), check=True, capture_output=True)
    assert console.trust("--yes")[0] == 0 and console.check()[0] == 0


def test_a_host_that_cannot_be_asked_is_not_called_known(tmp_path, box):
    known = tmp_path / "known"
    known.write_bytes(box.known_as.encode() + b"# J\xfcrgen\n")  # another host's key
    with socket.create_server(("127.0.0.1", 0)) as door:
        config = tmp_path / "config"
        config.write_text(f"Host w9\n HostName 127.0.0.1\n Port {door.getsockname()[1]}\n UserKnownHostsFile {known}\n")
        hanging_up = threading.Thread(target=lambda: door.accept()[0].close())
        hanging_up.start()
        with pytest.raises(PlanError, match=r"w9: shows no key: .*(closed|reset)"):
            strangers(["w9"], config)
        hanging_up.join()


@pytest.fixture
def terminal(tmp_path, boxes) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    with tempfile.TemporaryDirectory(prefix="sd-") as short:  # who is killed leaves the folder of its sockets there
        terminal.env["TMPDIR"] = short
        yield terminal
        terminal.close()


def over_ssh(terminal: Terminal, boxes) -> tuple[str, ...]:
    way = ("--transport", "ssh", "--ssh-config", str(boxes.config), "--yes", "--accept-findings")
    return ("run", str(terminal.plan_file), "--journal", str(terminal.journal), *way)


def test_killed_again_and_again_it_is_resumed_and_nothing_is_done_twice(terminal, boxes, box):
    terminal.write(0.3, 0.7, 0.0, 0.3, retries=1)
    entries = lambda: read_journal(terminal.journal) if terminal.journal.exists() else []  # noqa: E731
    moments = (
        lambda: any(e.kind == "intent" for e in entries()),
        lambda: (began := terminal.folder / "began").exists() and "began-1" in began.read_text(),
        lambda: any(e.kind == "ended" and e.body["step"].endswith("s2") for e in entries()),
    )
    words = over_ssh(terminal, boxes)
    for moment in moments:
        process = terminal.start(*words)
        until(lambda: moment() or process.poll() is not None)  # noqa: B023
        process.kill()
        process.wait()
        words = ("resume", str(terminal.journal), "--yes")
    code, said = terminal.resume()

    assert code == 0 and "outcome: success" in said, said
    assert terminal.done() == ["s0", "s1", "s2", "s3"] and not any(box.state.glob("*/lock")) and box.receipts() == []


def test_secrets_are_nowhere_to_be_seen_on_the_desk_or_on_the_box(terminal, boxes, box):
    canary = terminal.env["CANARY"].encode()
    tell = f'test "${{PASS%91ab}}" = canary- && echo "it is $PASS"; sleep 1; echo s0 >> {terminal.effects}'
    run, check = ("sh", "-c", tell), ("sh", "-c", f'echo "$PASS"; grep -qx s0 {terminal.effects} || exit 1')
    step = Step(id="work/w0/s0", on="w0", run=run, check=check, secrets={"PASS": "env:CANARY"})
    terminal.effects.touch()
    write_dossier(dossier(Plan(environment=farm(1, 100.0, 50.0), steps=(step,)), 20), terminal.plan_file)
    lines: set[bytes] = set()
    files: dict[str, bytes] = {}

    def look() -> None:
        lines.update(cmdlines())
        for file in box.state.rglob("*"):
            try:
                files[file.name] = files.get(file.name, b"") + file.read_bytes()
            except OSError:
                continue

    with Sampler(look):
        code, said = terminal.do(*over_ssh(terminal, boxes))

    assert code == 0 and terminal.done() == ["s0"], said
    assert any(b"sleep" in line for line in lines) and any(b"python3\0-I" in line for line in lines)
    assert {"claim", "child", "output"} <= set(files) and b"it is ***" in files["output"]
    artefacts = [f.read_bytes() for f in (*terminal.folder.rglob("*"), *boxes.folder.rglob("*")) if f.is_file()]
    assert len(artefacts) > 10 and not any(canary in seen for seen in (*lines, *files.values(), *artefacts, said.encode()))
