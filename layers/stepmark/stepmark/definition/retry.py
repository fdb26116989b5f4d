"""How often a step is tried again, and how long it waits in between."""

from dataclasses import dataclass
from inspect import isclass
from math import inf
from random import SystemRandom


@dataclass(frozen=True, slots=True)
class Retry:
    """How a failing step is tried again.

        Step("ask", self.ask, retry=Retry(attempts=5, first_delay=0.5, on=(ConnectionError,)))

    attempts: how often the step runs at most, the first time included.
    first_delay, longest_delay: seconds. factor: each delay is that much longer than the one before.
    jitter: 0 to 1, the share of a delay that is left to chance.
    on: the error, or a tuple of those, that are worth another attempt; all others, and every DoNotRetry, park
    the thread at once. Of a group of errors, each must be worth it.

    An error may ask for a longer delay, up to a day: by an attribute `retry_after` (seconds), or a `response`
    with the header Retry-After, as the errors of HTTP clients have.
    Raises ValueError or TypeError for what makes no sense.
    """

    attempts: int = 5
    first_delay: float = 1.0
    factor: float = 2.0
    longest_delay: float = 300.0
    jitter: float = 0.2
    on: type[Exception] | tuple[type[Exception], ...] = Exception

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("Retry(attempts=...) counts the first attempt: give at least 1")
        if not (0 <= self.first_delay < inf and 0 <= self.longest_delay < inf):
            raise ValueError("Retry: a delay must be a number of seconds that is not negative")
        if not self.factor >= 1:
            raise ValueError("Retry(factor=...) must be 1 or more")
        if not 0 <= self.jitter <= 1:
            raise ValueError("Retry(jitter=...) must lie between 0 and 1")
        on: object = self.on
        errors = on if isinstance(on, tuple) else (on,)
        if not all(isclass(each) and issubclass(each, Exception) for each in errors):
            raise TypeError("Retry(on=...) must be an exception class, or a tuple of them, as after `except`")

    def delay(self, failures: int, error: BaseException) -> float | None:
        """The seconds to wait after that many failures, or None when there is no further attempt."""
        if failures >= self.attempts or not self._is_worth_it(error):
            return None
        try:
            full = min(self.longest_delay, self.first_delay * self.factor ** (failures - 1))
        except OverflowError:
            full = self.longest_delay
        return full * (1 - self.jitter * _chance.random())

    def _is_worth_it(self, error: BaseException) -> bool:
        # what is no Exception, such as a step's own sys.exit(), is worth it where every Exception is
        return isinstance(error, self.on) or (
            not isinstance(error, Exception) and issubclass(Exception, self.on)
        )


_chance = SystemRandom()

DEFAULT_RETRY = Retry()
