"""The outputs that a workflow remembers, so that the repeat of an event is answered and runs nothing."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections import OrderedDict
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

MAX_OUTPUTS = 100  # event_ids remembered, oldest forgotten first
MAX_OUTPUT_BYTES = 65_536  # of what is stored of them
_LONG = 1_024  # bytes; what is longer is compressed, if that helps


class Packed(NamedTuple):
    """An output as zlib's base64 of its JSON; empty when it was too long to be kept."""

    text: str


FORGOTTEN = Packed("")


def remember(outputs: OrderedDict[str, Any], event_id: str, output: Any) -> None:
    """Keep an output within the bounds above; that of the last event always, whole.

    Beyond them the oldest outputs go first, but not their ids, as long as those alone are within the bounds:
    what has been handled is not handled again.
    """
    outputs[event_id] = _packed(output)
    while len(outputs) > MAX_OUTPUTS or (
        len(outputs) > 1 and _size("".join(outputs), None) > MAX_OUTPUT_BYTES
    ):
        outputs.popitem(last=False)
    sizes = {key: _size(key, kept) for key, kept in outputs.items()}
    excess = sum(sizes.values()) - MAX_OUTPUT_BYTES
    for key in list(outputs)[:-1]:
        gain = sizes[key] - _size(key, FORGOTTEN)
        if excess > 0 and gain > 0:
            outputs[key] = FORGOTTEN
            excess -= gain


def unpacked(output: Any) -> Any:
    """An output as it was, if it is not FORGOTTEN."""
    return from_json(zlib.decompress(b64decode(output.text))) if isinstance(output, Packed) else output


def store(outputs: OrderedDict[str, Any]) -> dict[str, Any]:
    """As entries of the progress. The release before answers null for what it can't unpack."""
    packed = {key: output.text for key, output in outputs.items() if isinstance(output, Packed)}
    plain = [(key, None if key in packed else output) for key, output in outputs.items()]
    return ({"outputs": plain} if plain else {}) | ({"packed": packed} if packed else {})


def load(stored: dict[str, Any]) -> OrderedDict[str, Any]:
    """From what store() made."""
    outputs: OrderedDict[str, Any] = OrderedDict(stored.get("outputs", ()))
    return outputs | {key: Packed(text) for key, text in stored.get("packed", {}).items() if key in outputs}


def _packed(output: Any) -> Any:
    text = to_json(output)
    if len(text) <= _LONG:
        return output
    packed = Packed(b64encode(zlib.compress(text)).decode())
    return packed if len(packed.text) < len(text) else output


def _size(event_id: str, output: Any) -> int:
    if isinstance(output, Packed):
        return 2 * len(event_id.encode()) + len(output.text) + len('[,null],:"",')
    return len(event_id.encode()) + len(to_json(output)) + len("[,],")
