"""Alpha, Beta and Gamma: three demo companies, each with its own customer service and its own protocol."""

from local.companies.control import Companies, running
from local.companies.model import (
    CREDENTIALS,
    SOURCES,
    Behaviour,
    Credentials,
    Customer,
    Fault,
    Service,
    Source,
    invented_customer,
)

__all__ = [
    "CREDENTIALS",
    "SOURCES",
    "Behaviour",
    "Companies",
    "Credentials",
    "Customer",
    "Fault",
    "Service",
    "Source",
    "invented_customer",
    "running",
]
