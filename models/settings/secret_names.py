"""Recognises environment variables with secrets by their names. Other programs, such as vLLM, start without them."""

import re
from collections.abc import Mapping

_SECRET_NAME = re.compile(
    r"KEY|TOKEN(?!IZERS_)|SECRET|PASSWORD|PASSWD|CREDENTIAL|DATABASE_URL|OTLP_\w*HEADERS", re.IGNORECASE
)


def is_secret_name(name: str) -> bool:
    """Whether an environment variable's name suggests a secret."""
    return bool(_SECRET_NAME.search(name))


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """A copy of `environment` without variables that hold secrets."""
    return {name: value for name, value in environment.items() if not is_secret_name(name)}
