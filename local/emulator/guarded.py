"""MiniStack behind the door, run by its own environment's Python: .venvs/emulator/bin/python -P <this file>.

-P, and the repository last on the path: no module of ours takes the place of one of the emulator's.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

import ministack.app  # type: ignore[import-not-found]
import ministack.core.iam_actions as iam  # type: ignore[import-not-found]

from local.servers.door import guarded

_action_of = iam.extract_iam_action


def action_of(*request: object) -> str | None:
    """Name the right that a request needs. SQS has none for batches: ten messages need that for one."""
    action: str | None = _action_of(*request)
    return action.removesuffix("Batch") if action and action.startswith("sqs:") else action


iam.extract_iam_action = action_of

# The server that its main() starts serves what this name stands for.
ministack.app.app = guarded(ministack.app.app)

if __name__ == "__main__":
    ministack.app.main()
