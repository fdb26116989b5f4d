"""What can go wrong on this machine; each message says what to look at.

LocalError
├── StartError        a child process ended, or was not ready in time
├── DeploymentError   sam could not build or deploy
├── WarmUpError       the functions do not answer as they should
├── NotInTime         what was waited for did not happen in time
└── StoryError        the system did something else than the demo says
"""


class LocalError(Exception):
    """What a local command reports, and ends with."""


class StartError(LocalError):
    """A child process ended, or was not ready by its deadline; the message ends with its last output."""


class DeploymentError(LocalError):
    """SAM could not build or deploy the template in time; the message ends with SAM's own last words."""


class WarmUpError(LocalError):
    """The functions do not answer as they should; the message says what they answer."""


class StoryError(LocalError):
    """The system did something else than the story says."""


class NotInTime(LocalError):
    """What was waited for did not happen in time."""
