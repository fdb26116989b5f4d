"""MiniStack behind the door, run by its own environment's Python: .venvs/emulator/bin/python -P <this file>.

-P, and the repository last on the path: no module of ours takes the place of one of the emulator's.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

import ministack.app  # type: ignore[import-not-found]

from local.servers.door import guarded

# The server that its main() starts serves what this name stands for.
ministack.app.app = guarded(ministack.app.app)

if __name__ == "__main__":
    ministack.app.main()
