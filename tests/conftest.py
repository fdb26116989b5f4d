"""What all tests share."""

from hypothesis import HealthCheck, settings

# A busy machine is no defect: no test may fail because an example took long.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
