"""Variants of a route's path: without /v1, with doubled slashes, with a trailing slash.

Only the inference routes and `GET /v1/models` are served under them. All other routes change data or show it to owners;
a reverse proxy that restricts them by path must not have to know every variant. Their variants get a 404 that names the
right path, and so does a path that ends with the path of an inference route.
"""

import re
from collections.abc import Container

from serve.transport.asgi import Scope

_PLAIN = re.compile(rb"/[A-Za-z0-9_./:@+-]*")
_MODELS = "/v1/models"
DOUBLED_SLASH = re.compile(r"//v1/|/v1//")  # at the start of a path


def correct_address(scope: Scope, routes: Container[str]) -> str | None:
    """The canonical path of a request, if that is one of `routes` or reads a model; otherwise None."""
    raw: bytes = scope["raw_path"]
    if len(raw) > 512 or not _PLAIN.fullmatch(raw):
        return None
    path = _normalized(raw.decode())
    if path is None:
        return None
    reads_model = scope["method"] == "GET" and path.startswith(_MODELS + "/")
    return path if path in routes or reads_model else None


def suggested_address(path: str, prefixes: Container[str], routes: Container[str] = ()) -> str | None:
    """The path to suggest in a 404; None if there is none.

    Args:
        prefixes: the first two parts of paths, such as /v1/files; a variant of a path under them is suggested.
        routes: whole paths; one that `path` ends with is suggested, as in /v1/chat/completions/chat/completions.
    """
    parts = [part for part in path[:512].split("/") if part]
    while "v1" in parts:
        del parts[: parts.index("v1") + 1]
    suggestion = "/".join(["/v1", *parts])
    if "/".join(["/v1", *parts[:1]]) in prefixes:
        return suggestion if suggestion != path else None
    endings = ("/".join(["/v1", *parts[start:]]) for start in range(len(parts)))
    return next((ending for ending in endings if ending in routes), None)


def _normalized(path: str) -> str | None:
    parts = [part for part in path.split("/") if part]
    if "." in parts or ".." in parts:
        return None
    if parts[:1] == ["v1"]:
        del parts[0]
    return "/".join(["/v1", *parts])
