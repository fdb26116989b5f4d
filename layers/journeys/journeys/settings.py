"""What the template hands to the functions behind journeys."""

from typing import NamedTuple, Self

from conversation.errors import ConfigurationError
from conversation.settings import optional_text, text, whole_number


class EngineSettings(NamedTuple):
    """Where workflows are kept, for how long once they are over, how they are woken up, and their bound."""

    table_name: str
    keep_seconds: int
    queue_url: str
    queue_arn: str
    schedule_group: str
    schedule_role_arn: str
    commit_limit: int

    @classmethod
    def from_environment(cls) -> Self:
        """Read WORKFLOW_TABLE, RETENTION_HOURS, RESUME_QUEUE_URL, RESUME_QUEUE_ARN and the rest of them."""
        return cls(
            table_name=text("WORKFLOW_TABLE"),
            keep_seconds=whole_number("RETENTION_HOURS") * 3600,
            queue_url=text("RESUME_QUEUE_URL"),
            queue_arn=text("RESUME_QUEUE_ARN"),
            schedule_group=text("SCHEDULE_GROUP"),
            schedule_role_arn=text("SCHEDULE_ROLE_ARN"),
            commit_limit=whole_number("JOURNEY_COMMIT_LIMIT"),
        )


class QueueSettings(NamedTuple):
    """Where wake-ups are sent."""

    queue_url: str

    @classmethod
    def from_environment(cls) -> Self:
        """Read RESUME_QUEUE_URL."""
        return cls(queue_url=text("RESUME_QUEUE_URL"))


class CrmSettings(NamedTuple):
    """Where the CRM takes notes, and which secret opens it; an empty URL: there is none, and no secret."""

    url: str
    secret_id: str

    @classmethod
    def from_environment(cls) -> Self:
        """Read CRM_URL and, where there is a CRM, CRM_SECRET."""
        url = optional_text("CRM_URL").rstrip("/")
        return cls(url=url, secret_id=text("CRM_SECRET") if url else "")


class JourneySettings(NamedTuple):
    """For how many hours a journey may go on after its start; 0: for as long as its conversation is kept."""

    hours: int

    @classmethod
    def from_environment(cls) -> Self:
        """Read JOURNEY_HOURS."""
        return cls(hours=0 if text("JOURNEY_HOURS") == "0" else whole_number("JOURNEY_HOURS"))


class RetentionSettings(NamedTuple):
    """The offers that the journey `retention` may make, the first of them unless the client names another."""

    offers: tuple[str, ...]

    @classmethod
    def from_environment(cls) -> Self:
        """Read RETENTION_OFFERS, a list with commas."""
        offers = tuple(offer.strip() for offer in text("RETENTION_OFFERS").split(","))
        if not all(offers):
            raise ConfigurationError("RETENTION_OFFERS must be a list of offers, separated by commas")
        return cls(offers)


class SweepSettings(NamedTuple):
    """Where workflows are kept."""

    table_name: str

    @classmethod
    def from_environment(cls) -> Self:
        """Read WORKFLOW_TABLE."""
        return cls(table_name=text("WORKFLOW_TABLE"))
