"""Advisory fields of an answer: whatever their type, they must not cost us the answer."""

import math


def whole_number(value: object) -> int | None:
    """Read a number however it is written, without its fraction; None when it is not a number.

        whole_number("3599")   # 3599
        whole_number(3599.9)   # 3599
        whole_number("soon")   # None

    Infinity is the greatest number that a float has.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    if math.isnan(number):
        return None
    return int(max(-1e308, min(number, 1e308)))
