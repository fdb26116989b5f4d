"""How often a step is tried again, and how long it waits in between."""

from dataclasses import dataclass
from inspect import isclass
from math import inf
from random import SystemRandom

type Errors = type[Exception] | tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """How a failing step is tried again.

        Step("ask", self.ask, retry=Retry(attempts=5, first_delay=0.5, on=(ConnectionError,)))

    attempts: how often the step runs at most, the first time included.
    first_delay, longest_delay: seconds. factor: each delay is that much longer than the one before.
    jitter: 0 to 1, the share of a delay that is left to chance.
    on: the error, or a tuple of those, that are worth another attempt; after all others, and every
    DoNotRetry, the step gives up at once. Of a group of errors, each must be worth it.

    An error may ask for a longer delay, up to a day: by an attribute `retry_after` (seconds), or a `response`
    with the header Retry-After, as the errors of HTTP clients have.
    Raises ValueError or TypeError for what makes no sense.
    """

    attempts: int = 5
    first_delay: float = 1.0
    factor: float = 2.0
    longest_delay: float = 300.0
    jitter: float = 0.2
    on: Errors = Exception

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("Retry(attempts=...) counts the first attempt: give at least 1")
        if not (0 <= self.first_delay < inf and 0 <= self.longest_delay < inf):
            raise ValueError("Retry: a delay must be a number of seconds that is not negative")
        if not self.factor >= 1:
            raise ValueError("Retry(factor=...) must be 1 or more")
        if not 0 <= self.jitter <= 1:
            raise ValueError("Retry(jitter=...) must lie between 0 and 1")
        check_errors(self.on, "Retry")

    def delay(self, failures: int, error: BaseException) -> float | None:
        """The seconds to wait after that many failures, or None when there is no further attempt."""
        if failures >= self.attempts or not is_one_of(error, self.on):
            return None
        try:
            full = min(self.longest_delay, self.first_delay * self.factor ** (failures - 1))
        except OverflowError:
            full = self.longest_delay
        return full * (1 - self.jitter * _chance.random())


def check_errors(on: object, where: str) -> None:
    """Refuse what can't stand after `except`."""
    errors = on if isinstance(on, tuple) else (on,)
    if not all(isclass(each) and issubclass(each, Exception) for each in errors):
        raise TypeError(f"{where}(on=...) must be an exception class, or a tuple of them, as after `except`")


def is_one_of(error: BaseException, on: Errors) -> bool:
    """Whether `on` names an error's kind.

    What is no Exception, such as a step's own sys.exit(), counts as one where every Exception does.
    """
    return isinstance(error, on) or (not isinstance(error, Exception) and issubclass(Exception, on))


_chance = SystemRandom()

DEFAULT_RETRY = Retry()
