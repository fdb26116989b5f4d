"""Who holds a lease, named so that on one machine a holder's death is seen before the lease runs out."""

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


def has_died(holder: str) -> bool:
    """Whether a holder certainly does nothing any more; False for one on another machine.

    A process that has got a dead one's number makes the dead one look alive: then the lease has to run out.
    """
    machine, _, rest = holder.partition(":")
    number, _, _ = rest.partition(":")
    if machine != _machine() or not number.isdecimal():
        return False
    pid = int(number)
    return holder not in _OURS if pid == os.getpid() else not _exists(pid)


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
    return f"{socket.gethostname().replace(':', '-')}/{inode}"
