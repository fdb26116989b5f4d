"""Several calls at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor


def in_parallel[Item, Result](function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call a function with every item at once, and return what it returned in the items' order.

        in_parallel(ivr.read, ["c1", "c2"])

    Raises what the first failing call raised. An interrupt does not wait for the calls that are under way.
    """
    arguments = list(items)
    threads = ThreadPoolExecutor(len(arguments))
    try:
        return list(threads.map(function, arguments))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
