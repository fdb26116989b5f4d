"""A process that stops before or after any call: the calls are counted, and one of them does not return."""

from collections.abc import Iterator

from stepmark import Record, Store

from tests.stepmark.random.programs import World


class Crash(BaseException):
    """The process has stopped. Not an Exception: nothing in the engine may handle it."""


class Bomb:
    """Goes off at given calls, counted over the life of the workflow."""

    def __init__(self, *at: int) -> None:
        self.at = set(at)
        self.count = 0

    def tick(self) -> None:
        self.count += 1
        if self.count in self.at:
            raise Crash(self.count)


class CrashingStore:
    """Stops before or after the inner store does something."""

    on_one_machine = False

    def __init__(self, inner: Store, bomb: Bomb) -> None:
        self._inner = inner
        self._bomb = bomb

    def create(self, record: Record) -> bool:
        self._bomb.tick()
        created = self._inner.create(record)
        self._bomb.tick()
        return created

    def load(self, workflow_id: str) -> Record | None:
        self._bomb.tick()
        return self._inner.load(workflow_id)

    def commit(self, record: Record, expected_version: int) -> None:
        self._bomb.tick()
        self._inner.commit(record, expected_version)
        self._bomb.tick()

    def due(self, now: float, limit: int) -> list[str]:
        self._bomb.tick()
        return self._inner.due(now, limit)

    def next_due(self) -> float | None:
        return self._inner.next_due()

    def live(self, workflow: str | None = None) -> Iterator[Record]:
        return self._inner.live(workflow)


class CrashingScheduler:
    """Stops before or after a wake-up; it wakes nobody, so that only the store's due work is left."""

    def __init__(self, bomb: Bomb) -> None:
        self._bomb = bomb

    def wake(self, workflow_id: str, at: float) -> None:
        del workflow_id, at
        self._bomb.tick()


class CrashingEffects(list[str]):
    """Stops before or after a step or handler has had its effect."""

    def __init__(self, bomb: Bomb) -> None:
        super().__init__()
        self._bomb = bomb

    def append(self, effect: str) -> None:
        self._bomb.tick()
        super().append(effect)
        self._bomb.tick()


def plant(bomb: Bomb) -> None:
    """Let the bomb count the effects of the program that runs."""
    World.effects = CrashingEffects(bomb)
