"""Processes: a pid is not enough to know one, and what a session's dead leader left is found and ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from deployments.processes import (
    ProcessId,
    _read_stat,
    boot_id,
    descendants,
    end_all,
    own_id,
    session_members,
    wait_until,
)

LEADER = """
import subprocess, sys
child = subprocess.Popen(["sleep", "600"], process_group=0)
print(child.pid, flush=True)
sys.stdin.read()
"""
"""Opens a session with a child in a process group of its own, as Ray's workers are; ends when its input does."""


@pytest.fixture
def session() -> Iterator[tuple[subprocess.Popen[bytes], ProcessId, int]]:
    """A session's leader, its id, and its child's pid."""
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    with leader:
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        stat = _read_stat(leader.pid)
        assert stat is not None
        identity = ProcessId(leader.pid, stat.started_ticks, boot_id())
        try:
            yield leader, identity, child
        finally:
            end_all(lambda: session_members(identity), 5)


def test_a_process_is_known_by_more_than_its_pid() -> None:
    me = own_id()
    assert me.is_alive()
    assert not replace(me, started_ticks=me.started_ticks + 1).is_alive()
    assert not replace(me, boot_id="another boot").is_alive()


def test_a_zombie_is_not_alive() -> None:
    ended = subprocess.Popen(["true"])
    assert wait_until(lambda: _read_stat(ended.pid) is None, 5)
    ended.wait()


def test_descendants_and_session_members(session: tuple[subprocess.Popen[bytes], ProcessId, int]) -> None:
    leader, identity, child = session
    assert descendants(leader.pid) == [child]
    assert {leader.pid, child} <= set(descendants(os.getpid()))
    assert sorted(session_members(identity)) == sorted([leader.pid, child])


def test_what_a_killed_leader_left_is_found_and_ended(
    session: tuple[subprocess.Popen[bytes], ProcessId, int],
) -> None:
    leader, identity, child = session
    leader.kill()
    leader.wait()
    assert session_members(identity) == [child]
    assert end_all(lambda: session_members(identity), 5) == []
    assert _read_stat(child) is None


def test_a_pid_that_was_given_again_is_nobody_of_ours(
    session: tuple[subprocess.Popen[bytes], ProcessId, int],
) -> None:
    _, identity, _ = session
    assert session_members(replace(identity, started_ticks=identity.started_ticks - 1)) == []
    assert session_members(replace(identity, boot_id="another boot")) == []


def test_ending_takes_no_exit_code_from_its_caller() -> None:
    other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    assert wait_until(lambda: _read_stat(other.pid) is None, 10)
    found = iter([[2**22 + 1], []])  # no such pid
    assert end_all(lambda: next(found), 5) == []
    assert other.wait() == 7
