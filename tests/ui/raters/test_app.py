"""The raters' app before a vote: no model's name in pages, headers or errors. The browser tests record the rest."""

import json

import pytest

from models.errors import Conflict, Forbidden, Invalid, NotFound, ParleyError, Unavailable
from tests.ui.conftest import NAMES, Page
from ui.raters.error_texts import error_body
from ui.raters.texts import load_texts


@pytest.mark.long
def test_the_built_page_names_no_model(open_page: Page):
    client = open_page.browser()
    for address in (
        "/vote/",
        "/vote/config",
        "/vote/theme.css",
        "/vote/api/state",
        "/vote/c/open/",
        "/vote/c/open/config",
    ):
        answer = client.get(address)
        assert answer.status_code == 200
        everything = answer.text + json.dumps(dict(answer.headers))
        for name in NAMES:
            assert name not in everything


def test_errors_name_no_model(tmp_path):
    name = NAMES[0]
    errors: list[Exception] = [
        Invalid(f"{name} is bad", param="prompt"),
        Invalid(f"{name} is bad", param="models"),
        Invalid(f"{name} is bad"),
        NotFound(f"no {name}"),
        Conflict(f"{name} is closed", code="closed"),
        Conflict(f"{name} is bad", code=name),
        Forbidden(f"{name} may not"),
        Unavailable(f"{name} died"),
        ParleyError(f"{name} died"),
        RuntimeError(f"{name} died"),
    ]
    for language in ("en", "de"):
        for error in errors:
            body = json.dumps(error_body(error, load_texts(language, tmp_path)))
            assert name not in body
            assert len(body) > 50
