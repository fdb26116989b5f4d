"""One Lambda function that asks the three companies and waits for all of them: the usual way of doing it."""

from typing import Any

from local.demo.comparison.lookups import Company, CompanyCustomer, ask_all


def lambda_handler(event: dict[str, Any], _context: object) -> CompanyCustomer | None:
    """Answer {"callerNumber", "companies": [{"source", "url", "credentials"}]} with the customer or null."""
    return ask_all([Company(**company) for company in event["companies"]], event["callerNumber"])
