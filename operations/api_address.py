"""Where a stack's API is reached, which its output says but for emulators."""

from __future__ import annotations

from urllib.parse import urlsplit


def reachable(api_url: str, endpoint: str | None) -> str:
    """The API's URL, which is a path of the endpoint when there is one: no name to resolve, no Host header.

        reachable("https://a1b2.execute-api.eu-west-1.amazonaws.com/v1", os.environ.get("AWS_ENDPOINT_URL"))

    LocalStack and MiniStack both serve it there; None is AWS itself.
    """
    if not endpoint:
        return api_url
    url = urlsplit(api_url)
    api_id = str(url.hostname).partition(".")[0]
    return f"{endpoint.rstrip('/')}/_aws/execute-api/{api_id}{url.path}"
