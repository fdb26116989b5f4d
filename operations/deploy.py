"""`make deploy`: the gate, `sam build` and `sam deploy`, all with the stack's own environment of samconfig.

python -m operations.deploy staging            # refused when it would park journeys
python -m operations.deploy staging --first    # the stack is not there yet
"""

from __future__ import annotations

import os
import subprocess
import sys

from operations import gate
from operations.sam_config import NotConfigured, deployment_of

SAM = ".venvs/sam/bin/sam"
# The template has loops; an environment that `sam deploy --guided` wrote does not say so.
LOOPS = "--language-extensions"
CAPABILITIES = ("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")
# SAM's Python is its own: no module of ours is to take the place of one of its. And it would take another
# template than this checkout's, with the samconfig beside that.
UNWANTED = ("PYTHONPATH", "SAM_TEMPLATE_FILE")


def main(arguments: list[str]) -> int:
    """Deploy the stack that the command line names, in the environment that samconfig has for it."""
    stack_name = gate.parse("deploy", arguments).stack
    checked = gate.main(arguments)
    if checked != 0:
        return checked
    try:
        environment = deployment_of(stack_name).environment
    except NotConfigured as error:
        print(error)
        return 1
    for command in (
        ("build", "--config-env", environment, LOOPS),
        ("deploy", "--config-env", environment, "--stack-name", stack_name, LOOPS, *CAPABILITIES),
    ):
        environment_of_sam = {name: value for name, value in os.environ.items() if name not in UNWANTED}
        finished = subprocess.run([SAM, *command], check=False, env=environment_of_sam)  # noqa: S603
        if finished.returncode != 0:
            return finished.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
