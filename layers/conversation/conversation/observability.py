"""Logs and metrics that every function shares. Neither ever carries a number, a name or an attribute.

The service's name comes from POWERTOOLS_SERVICE_NAME, the namespace of the metrics from
POWERTOOLS_METRICS_NAMESPACE. Whoever counts something makes its own EphemeralMetrics: the shared kind is
not safe when several requests run in one process, as they do in tests.
"""

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric

logger = Logger(use_rfc3339=True)


def count(metric: str, value: int = 1) -> None:
    """Count something that any of the functions may find, so that one alarm sees it wherever it was found.

        count("IdentificationTimedOut")

    Its only dimension is `service=meanwhile`, where Powertools would name the function.
    """
    with single_metric(name=metric, unit=MetricUnit.Count, value=value) as emitted:
        emitted.add_dimension("service", "meanwhile")
