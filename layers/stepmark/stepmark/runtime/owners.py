"""Who holds a lease, named so that on one machine a holder's death is seen before the lease runs out.

    machine:process:random@boot-end

What comes after the @ changes as the lease is prolonged: its end on the clock of the machine that nobody
sets, which runs since the machine was started. All processes on it see the same clock.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path
from secrets import token_hex

_OURS: set[str] = set()  # those of this process that may hold a lease


def new_owner() -> str:
    """A name for one who is about to run a workflow: machine, process, and a random part."""
    return f"{_machine()}:{os.getpid()}:{token_hex(8)}"


def begin(holder: str) -> None:
    """Note that somebody in this process may hold a lease from now on."""
    _OURS.add(holder)


def end(holder: str) -> None:
    """Note that somebody in this process does nothing any more, whether or not the lease was given back."""
    _OURS.discard(holder)


def with_end(holder: str, end: float) -> str:
    """A holder's name with the end of its lease, where others can tell what that means."""
    return f"{holder}@{_boot()}-{end:.3f}" if _boot() else holder


def end_of(holder: str) -> float | None:
    """The end of a lease on this machine's own clock; None when that is not known."""
    name, _, lease = holder.partition("@")
    boot, _, end = lease.partition("-")
    if not boot or boot != _boot() or name.partition(":")[0] != _machine():
        return None
    try:
        return float(end)
    except ValueError:
        return None


def has_died(holder: str) -> bool:
    """Whether a holder certainly does nothing any more; False for one on another machine.

    A process that has got a dead one's number makes the dead one look alive: then the lease has to run out.
    """
    name, _, lease = holder.partition("@")
    machine, _, rest = name.partition(":")
    number, _, _ = rest.partition(":")
    if machine != _machine() or not number.isdecimal():
        return False
    if lease and _boot() and lease.partition("-")[0] != _boot():  # the machine was started anew since
        return True
    pid = int(number)
    return name not in _OURS if pid == os.getpid() else not _exists(pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's process
        return True
    return True


@cache
def _machine() -> str:
    """This machine's name, and in which of its containers' numbering of processes this one is."""
    numbering = Path("/proc/self/ns/pid")
    inode = numbering.stat().st_ino if numbering.exists() else 0
    return f"{socket.gethostname().replace(':', '-').replace('@', '-')}/{inode}"


@cache
def _boot() -> str:
    """Which of the machine's starts this is, as far as the system says so."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text()[:8] if boot.exists() else ""
