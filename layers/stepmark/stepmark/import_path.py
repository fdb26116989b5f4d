"""Where `python -m stepmark` looks for modules: in the working directory last, not first.

Python puts it first, so that a json.py which somebody has put there would be taken for the installed one. At
the end, the command still finds the program's own modules in it. What Python imports before it comes here is
beyond this; the command `stepmark`, and `python -P -m stepmark`, never look there first.
"""

from __future__ import annotations

import os
import sys


def _module_of(arguments: list[str]) -> str:
    """The module that the interpreter's own arguments name with `-m`."""
    rest = iter(arguments)
    for one in rest:
        letters = one[1:] if one[:1] == "-" and one[:2] != "--" else ""
        for place, letter in enumerate(letters, 1):
            if letter == "m":
                return letters[place:] or next(rest, "")
            if letter in "WX":  # the rest is their value
                if not letters[place:]:
                    next(rest, None)
                break
    return ""


# "-m" is what stands there while Python looks for the module
if (
    sys.argv[:1] == ["-m"]
    and _module_of(sys.orig_argv[1:]).partition(".")[0] == __package__
    and sys.path[:1] in ([""], [os.getcwd()])  # noqa: PTH109 - pathlib would be looked for there
):
    sys.path.append(sys.path.pop(0))
