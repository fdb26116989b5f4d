"""Where a stack's API is reached: as AWS says, or as a path of the emulator."""

import pytest

from operations import api_address

ON_AWS = "https://a1b2c3.execute-api.us-east-1.amazonaws.com/v1"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (None, ON_AWS),
        ("", ON_AWS),
        ("http://127.0.0.1:4566", "http://127.0.0.1:4566/_aws/execute-api/a1b2c3/v1"),
    ],
)
def test_the_apis_url(endpoint: str | None, expected: str) -> None:
    assert api_address.reachable(ON_AWS, endpoint) == expected
