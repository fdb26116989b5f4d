"""What all tests share."""

import os
import secrets

from hypothesis import HealthCheck, settings

# A busy machine is no defect: no test may fail because an example took long.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# Parallel processes must collect the same tests, and a failed run must repeat with the seed that it prints.
os.environ.setdefault("STEPMARK_SEED", str(secrets.randbits(32)))


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: while one waits, another computes."""
    return (os.cpu_count() or 1) + 1
