"""Everything that this package raises on purpose.

    ConversationError
    ├── InvalidRequest           the client sent something that no retry will mend
    │   └── RequestTooLarge      the same, because of its size
    ├── ConversationNotFound     unknown, or expired
    ├── NumberConflict           the conversation is known with another caller number
    ├── AttributeReserved        a journey of this conversation writes this attribute, and nobody else
    ├── ConfigurationError       the deployment lacks a setting
    └── TemporarilyUnavailable   retrying helps
        ├── StoreUnavailable     DynamoDB did not do it
        ├── StartUnavailable     Step Functions did not start the execution
        ├── SecretUnavailable    a secret cannot be read, or nobody has filled it
        └── SourceUnavailable    a company's service gave no answer that can be used

`code` is what the HTTP API calls the error. `retryable` tells a caller whether the same request may
succeed later. Messages say what to do, and never hold a number or a name: they are logged.
"""

from typing import ClassVar


class ConversationError(Exception):
    """The root of the tree above."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    retryable: ClassVar[bool] = False


class InvalidRequest(ConversationError):
    """The request is not what the API asks for; nothing was written."""

    code = "INVALID_REQUEST"


class RequestTooLarge(InvalidRequest):
    """The request, or what the conversation would hold after it, is over a limit; nothing was written."""

    code = "REQUEST_TOO_LARGE"


class ConversationNotFound(ConversationError):
    """No conversation with this id is kept, or it has expired."""

    code = "CONVERSATION_NOT_FOUND"


class NumberConflict(ConversationError):
    """The conversation was started with another caller number."""

    code = "CALLER_NUMBER_CONFLICT"


class AttributeReserved(ConversationError):
    """A journey of this conversation has declared the attribute as its own; nothing was written."""

    code = "ATTRIBUTE_RESERVED"


class ConfigurationError(ConversationError):
    """An environment variable that the function needs is missing or not what it should be."""


class TemporarilyUnavailable(ConversationError):
    """Something that usually works did not; the same call may succeed later."""

    code = "TEMPORARILY_UNAVAILABLE"
    retryable = True


class StoreUnavailable(TemporarilyUnavailable):
    """DynamoDB refused, or did not answer in time."""


class StartUnavailable(TemporarilyUnavailable):
    """Step Functions refused to start the identification, or did not answer in time."""


class SecretUnavailable(TemporarilyUnavailable):
    """A secret cannot be read, or does not hold what it should; the message says what to fill in."""


class SourceUnavailable(TemporarilyUnavailable):
    """A company's service gave no answer that can be used. The state machine catches it by this name."""

    code = "SOURCE_UNAVAILABLE"
