"""The one way to wait for a condition."""

import time
from collections.abc import Callable

from local.errors import LocalError, NotInTime


def wait_until[T](
    look: Callable[[], T | None],
    *,
    seconds: float,
    pause: float = 0.1,
    late: Callable[[], LocalError] | None = None,
) -> T:
    """Call `look()` until what it returns is true, and return that.

        document = wait_until(lambda: final(ivr.read(conversation_id)), seconds=20)

    Raises what `late()` makes, else NotInTime, after so many seconds; what `look()` raises ends the wait too.
    """
    until = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > until:
            if late is not None:
                raise late()
            raise NotInTime(f"it was not so within {seconds:g} s; at last: {found!r}")
        time.sleep(pause)
    return found
