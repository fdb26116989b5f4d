"""`python -m stepmark` is the command `stepmark`."""

import sys

from stepmark.cli import main

if __name__ == "__main__":
    sys.exit(main())
