"""The program on the host, for real on this machine: receipts, fences, time-outs, floods, secrets; and the fake beside it."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simdeploy.execution.host import _identity
from simdeploy.execution.outcomes import of_reply
from simdeploy.execution.transports import DESK, Local, Lost, Reply
from tests.builders import farm
from tests.execution.fakes import World

LOCAL = Local()


class Host:
    """This machine with a state folder of its own."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root

    def __call__(self, op: str, patience_s: float = 20.0, **fields: Any) -> Reply:
        order = {"op": op, "environment": "e", "run": "r", "root": str(self.root), "fence": 1, **fields}
        return LOCAL.carry(DESK, order, patience_s)

    def sh(self, script: str, key: str = "1.1", **fields: Any) -> Reply:
        return self("send", key=key, argv=["sh", "-c", script], **{"deadline_s": 20.0, "wait_s": 20.0, "grace_s": 0.3, **fields})

    def folder(self, key: str) -> pathlib.Path:
        return self.root / "e" / "runs" / "r" / key


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path / "state")


@pytest.mark.parametrize(
    ("script", "word", "detail"),
    [
        ("exit 0", "succeeded", ""),
        ("exit 3", "failed", "exit code 3"),
        ("exit 255", "failed", "exit code 255"),
        ("exit 143", "failed", "exit code 143"),
        ("kill -TERM $$", "killed", "SIGTERM"),
        ("kill -KILL $$", "killed", "SIGKILL"),
        ("sleep 60", "timed_out", "its processes were ended"),
    ],
)
def test_every_end_has_its_own_name_whatever_its_number(host, script, word, detail):
    outcome = of_reply(host.sh(script, deadline_s=0.4 if word == "timed_out" else 20.0))
    assert (outcome.word, outcome.detail) == (word, detail)


def test_of_a_run_that_nobody_cleaned_up_the_output_is_forgotten_and_the_receipt_never(host):
    host.sh("echo x", key="1.1", run="old")
    old = host.root / "e" / "runs" / "old"
    os.utime(old, (1.0, 1.0))
    assert (old / "1.1" / "output").exists()
    host.sh("true", key="1.1", run="new")

    assert not (old / "1.1" / "output").exists()
    assert of_reply(host.sh("exit 3", key="1.1", run="old")).word == "succeeded"  # its receipt is known: it is not sent again


def test_what_prints_our_frame_is_not_believed(host):
    forged = 'simdeploy-reply 0000000000000000 {\\"state\\": \\"ended\\", \\"how\\": \\"exited\\", \\"code\\": 0}'
    assert of_reply(host.sh(f'echo "{forged}"; exit 7')).word == "failed"


def test_a_receipt_lets_a_command_run_once_however_often_and_from_wherever_it_is_sent(host, tmp_path):
    script = f"sleep 0.2; echo x >> {tmp_path}/effect"
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: host.sh(script), range(8)))

    assert (tmp_path / "effect").read_text() == "x\n"
    assert {(r["state"], r["code"]) for r in replies} == {("ended", 0)}
    assert host("ask", key="1.1")["code"] == 0


def test_a_command_that_was_never_sent_is_settled_so_that_it_never_runs(host, tmp_path):
    assert host("ask", key="1.1") == {"state": "absent"}
    assert host("ask", key="1.1", settle=True) == {"state": "ended", "how": "never"}
    late = host.sh(f"touch {tmp_path}/effect")  # the order that was thought to be lost arrives

    assert late["how"] == "never" and not (tmp_path / "effect").exists()


def test_the_command_outlives_the_connection_that_sent_it(host, tmp_path):
    with pytest.raises(Lost):
        host.sh(f"sleep 0.6; echo done > {tmp_path}/effect", patience_s=0.3)
    assert not (tmp_path / "effect").exists()
    assert host("ask", key="1.1", wait_s=5.0)["code"] == 0 and (tmp_path / "effect").read_text() == "done\n"


def test_a_time_out_ends_the_whole_group_also_what_does_not_listen(host, tmp_path):
    script = f"trap '' TERM; (trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; echo x >> {tmp_path}/ticks; done) & wait"
    assert host.sh(script, deadline_s=0.4)["how"] == "timed_out"
    size = (tmp_path / "ticks").stat().st_size
    time.sleep(0.3)
    assert (tmp_path / "ticks").stat().st_size == size


def test_a_command_that_is_stopped_is_cancelled(host):
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(host.sh, "sleep 60")
        while not (host.folder("1.1") / "child").exists():
            time.sleep(0.02)
        assert host("stop", key="1.1", grace_s=2.0)["how"] == "cancelled"
        assert sent.result(5)["how"] == "cancelled"


def test_a_command_that_is_stopped_before_it_arrives_never_runs(host, tmp_path):
    assert host("stop", key="1.1")["how"] == "never"
    assert host.sh(f"touch {tmp_path}/done")["how"] == "never" and not (tmp_path / "done").exists()


def test_a_command_that_is_stopped_while_it_begins_is_ended(host):
    folder = host.folder("1.1")
    folder.mkdir(parents=True)
    (folder / "claim").write_text(json.dumps(_identity(os.getpid())))  # claimed, its command not written down yet
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child, ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(host, "stop", key="1.1", grace_s=5.0)
        while not (folder / "stop").exists():
            time.sleep(0.01)
        time.sleep(0.2)
        (folder / "child").write_text(json.dumps(_identity(child.pid)))
        assert child.wait(5) == -signal.SIGTERM
        (folder / "result").write_text(json.dumps({"how": "cancelled"}))
        assert stopped.result(10)["how"] == "cancelled"


def test_where_nobody_knows_what_a_supervisor_has_started_nobody_says_that_it_is_over(host):
    folder = host.folder("1.1")
    folder.mkdir(parents=True)
    (folder / "claim").write_text(json.dumps({**_identity(os.getpid()), "began": "1"}))
    assert host("ask", key="1.1")["why"].endswith("still runs")


def test_a_full_disk_under_its_output_does_not_end_a_command(host, tmp_path):
    limited = tmp_path / "python"
    limited.write_text(f'#!/bin/sh\nulimit -f 8\nexec {sys.executable} "$@"\n')
    limited.chmod(0o755)
    order = {
        "op": "send",
        "environment": "e",
        "run": "r",
        "root": str(host.root),
        "fence": 1,
        "key": "1.1",
        "deadline_s": 20.0,
        "wait_s": 20.0,
    }
    reply = Local(str(limited)).carry(DESK, {**order, "argv": ["sh", "-c", "yes | head -c 200000; echo end"]}, 20.0)
    assert (reply["how"], reply["code"], reply["bytes"]) == ("exited", 0, 200004) and reply["tail"].endswith("end\n")


def test_a_check_that_is_not_there_cannot_tell(host):
    reply = host("look", argv=["no-such-program"], deadline_s=5.0)
    assert (reply["how"], reply["code"]) == ("exited", 127) and "no-such-program" in reply["tail"]


def test_a_supervisor_that_was_killed_leaves_no_verdict(host):
    host.sh("sleep 60", wait_s=0.0)
    while not (host.folder("1.1") / "child").exists():
        time.sleep(0.02)
    claim, child = (json.loads((host.folder("1.1") / n).read_text()) for n in ("claim", "child"))
    os.kill(claim["pid"], signal.SIGKILL)
    lost = host("ask", key="1.1", wait_s=2.0)
    assert lost == {"state": "lost", "why": "its supervisor is gone and its command still runs"}
    os.killpg(child["pid"], signal.SIGKILL)
    time.sleep(0.1)
    assert host("ask", key="1.1")["why"] == "its supervisor is gone"


def test_a_host_that_was_restarted_meanwhile_says_so(host, tmp_path, monkeypatch):
    (tmp_path / "boot").write_text("first")
    monkeypatch.setenv("SIMDEPLOY_BOOT_ID", str(tmp_path / "boot"))
    host.sh("sleep 0.5", wait_s=0.0)
    while not (host.folder("1.1") / "child").exists():
        time.sleep(0.02)
    (tmp_path / "boot").write_text("second")
    assert host("ask", key="1.1") == {"state": "lost", "why": "the host was restarted while it ran"}


def test_a_hundred_megabytes_are_counted_and_a_megabyte_is_kept(host):
    began = time.monotonic()
    reply = host.sh("head -c 100000000 /dev/zero; echo end")

    assert reply["code"] == 0 and reply["bytes"] == 100000004 and reply["tail"].endswith("end\n")
    assert (host.folder("1.1") / "output").stat().st_size == 1000000 and time.monotonic() - began < 15


def test_output_that_is_no_text_is_shown_as_numbers(host):
    assert host.sh(r"printf '\377\000\303\244'")["tail"] == "\\xff\x00ä"


def test_a_service_that_it_starts_may_go_on_writing(host, tmp_path):
    script = f"(sleep 0.4; echo hello; echo $? > {tmp_path}/wrote) & exit 0"
    assert host.sh(script)["code"] == 0
    time.sleep(0.8)
    assert (tmp_path / "wrote").read_text() == "0\n"


def test_secrets_are_in_the_surroundings_and_nowhere_else(host, tmp_path):
    secret = "canary-5f2c"
    seen: list[str] = []
    over = threading.Event()

    def sample() -> None:
        while not over.is_set():
            for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.append(file.read_bytes().decode("utf-8", "replace"))
                except OSError:
                    continue

    watcher = threading.Thread(target=sample)
    watcher.start()
    reply = host.sh('test "$S" = canary-5f2c && echo "it is $S"; sleep 0.3; exec sleep 0.1', secrets={"S": secret})
    halves = host.sh("printf canary-; sleep 0.1; printf 5f2c", key="1.2", secrets={"S": secret})
    over.set()
    watcher.join()

    assert reply["code"] == 0 and reply["tail"] == "it is ***\n" and halves["tail"] == "***"
    assert any("sleep\x000.1" in line for line in seen)  # the sampler looked
    scripts = [line for line in seen if secret in line and "test" not in line]
    assert not scripts
    assert not any(secret.encode() in f.read_bytes() for f in host.root.rglob("*") if f.is_file())


def test_a_lower_fence_is_refused_and_a_fence_only_grows(host, tmp_path):
    assert host("fence", fence=5) == {"fence": 5} and host("fence", fence=3) == {"fence": 5}
    refused = of_reply(host.sh(f"touch {tmp_path}/effect", fence=4))
    assert refused.fenced == 5 and refused.no_effect and not (tmp_path / "effect").exists()
    assert of_reply(host.sh("exit 0", key="1.2", fence=5)).word == "succeeded"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: host("fence", fence=n), [9, 30, 12, 25, 7, 28, 11, 6]))
    assert host("fence", fence=0) == {"fence": 30}


def test_of_eight_at_once_one_has_the_lock(host):
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: host("lock", fence=0, owner={"who": f"u{n}", "run": f"r{n}", "token": f"t{n}"}), range(8)))
    [taken] = [r for r in replies if r["taken"]]
    holders = {r["by"]["token"] for r in replies if not r["taken"]}

    assert len(holders) == 1 and host("holder")["by"]["token"] in holders and taken["fence"] == host("holder")["fence"]
    assert not host("unlock", token="another")["freed"] and host("unlock", token=holders.pop())["freed"]
    again = host("lock", fence=0, owner={"who": "u", "run": "r", "token": "t"})
    assert again["taken"] and again["fence"] > taken["fence"]
    assert host("unlock", force=True)["fence"] > again["fence"]


def test_names_that_are_no_names_of_folders_are_refused(host):
    for name in ("../x", "a/b", "", ".", "-rf", "a\n"):
        with pytest.raises(AssertionError):
            assert "error" not in host("ask", key=name)


def test_receipts_go_when_the_run_has_ended(host):
    host.sh("exit 0")
    assert host.folder("1.1").exists()
    host("clean")
    assert not host.folder("1.1").parent.exists()


def test_it_is_python_3_6(tmp_path):
    """What a host needs is in the grammar of Python 3.6."""
    import ast

    import simdeploy.execution.host as program

    ast.parse(pathlib.Path(program.__file__).read_text(), feature_version=(3, 6))


ORDERS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 2), st.integers(1, 4)),
        st.tuples(st.just("ask"), st.integers(1, 2), st.booleans()),
        st.tuples(st.just("fence"), st.integers(1, 4)),
        st.tuples(st.just("lock"), st.sampled_from("ab")),
        st.tuples(st.just("unlock"), st.sampled_from("ab"), st.booleans()),
    ),
    max_size=7,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ORDERS)
def test_the_hosts_in_memory_answer_as_the_real_one(tmp_path_factory, orders):
    from simdeploy.plan.plan import Plan

    folder = tmp_path_factory.mktemp("host")
    real, world = Host(folder), World(Plan(environment=farm(1, 1.0, 1.0), steps=()))
    for op, *arguments in orders:
        order: dict[str, Any] = {"run": "r", "fence": 0}
        if op == "send":
            key, order["fence"] = f"{arguments[0]}.1", arguments[1]
            order |= {"key": key, "argv": ["do", key], "deadline_s": 9.0, "wait_s": 9.0}
        elif op == "ask":
            order |= {"key": f"{arguments[0]}.1", "settle": arguments[1]}
        elif op == "fence":
            order["fence"] = arguments[0]
        elif op == "lock":
            order["owner"] = {"token": arguments[0], "run": "r"}
        else:
            order |= {"token": arguments[0], "force": arguments[1]}
        argv = {"argv": ["sh", "-c", f"echo x >> {folder}/{order['key']}"]} if op == "send" else {}
        assert real(op, **{**order, **argv}) == world.answer(DESK, {"op": op, **order})
    for key in ("1.1", "2.1"):
        done = (folder / key).read_text().count("x") if (folder / key).exists() else 0
        assert done == world.effects[key] <= 1


def test_a_host_without_python_is_lost_and_says_why():
    with pytest.raises(Lost, match="cannot be run"):
        Local("/nowhere/python3").carry(DESK, {"op": "facts"}, 5.0)
    with pytest.raises(Lost):
        Local(sys.executable).carry(DESK, {"op": "look", "argv": ["sleep", "5"], "environment": "e", "run": "r", "deadline_s": 9}, 0.3)
    assert subprocess.run(["true"], check=False).returncode == 0
