"""The gateway that these tests share, and a check of the SDK's objects."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from models.database import Database
from models.settings.settings import Settings
from tests.evals.eval_runs.house import EvalsHouse, evals_house


@pytest.fixture
def house(settings: Settings, database: Database) -> Iterator[EvalsHouse]:
    """A gateway with two models."""
    with evals_house(settings, database) as running:
        yield running


Check = Callable[[Any], Any]


@pytest.fixture
def checked() -> Check:
    """Validates an object of the SDK by its own type: every required field, of the right type, and none unknown."""

    def check(value: Any) -> Any:
        kind = type(value)
        content = value.model_dump(by_alias=True)
        # OpenAI answers null where there is no error, though the types say otherwise.
        for holder in (content, content.get("sample")):
            if isinstance(holder, dict) and "error" in holder and holder["error"] is None:
                holder["error"] = {"code": "", "message": ""}
        kind.model_validate(content)
        # The SDK keeps a field under its alias as well.
        names = {field.alias for field in kind.model_fields.values()}
        assert set(value.model_extra or ()) <= names, value.model_extra
        return value

    return check
