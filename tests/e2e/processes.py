"""Starting, watching and killing processes of ours, and none but those."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

POLL_S = 0.05


@dataclass
class Started:
    """A process of ours, and all of its descendants that we ever saw."""

    pid: int
    seen: set[psutil.Process] = field(default_factory=set)

    def descendants(self) -> set[psutil.Process]:
        found = descendants(self.pid)
        self.seen |= found
        return found

    def kill(self) -> set[psutil.Process]:
        """kill -9 of this process alone. Returns the descendants that it had, which should end by themselves."""
        orphans = self.descendants()
        os.kill(self.pid, signal.SIGKILL)
        return orphans

    @property
    def is_over(self) -> bool:
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


@contextmanager
def started(
    arguments: list[str], environment: dict[str, str], log: Path, folder: Path | None = None
) -> Iterator[Started]:
    """A process in a session of its own. At the end it and every descendant that we saw are gone."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments, env=environment, cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
    found = Started(process.pid)
    try:
        yield found
    finally:
        found.descendants()
        process.kill()
        process.wait(30)
        for one in found.seen:
            end(one)


def descendants(pid: int) -> set[psutil.Process]:
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def end(process: psutil.Process) -> None:
    """Kills it, unless it is over already (a pid that another process has got since does not count)."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str, log: Path) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not after {timeout_s:.0f} s: {what}\n{log.read_text()[-3000:]}"
        time.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nothing listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
