"""A bot's own page: an owner edits title, greeting, examples and logo; a visitor gets them with the page itself."""

from typing import Any

import orjson
import pytest

from models.database import Database
from models.files.stored_files import Files
from models.registry.registry import Registry
from models.settings.settings import Settings
from tests.ui.conftest import NAMES, Page, filled, register_models, stand_in
from ui.backend.context import PageContext
from ui.owners.models.bot_page import BotPageHandlers, BotPageView

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)


@pytest.fixture
def form(settings: Settings, database: Database) -> BotPageHandlers:
    register_models(database, "http://127.0.0.1:9/v1")
    return BotPageHandlers(PageContext(settings, database), stand_in(BotPageView))


async def save(form: BotPageHandlers, **changes: Any) -> str:
    values = {"which": NAMES[0], "title": "Shop", "greeting": "Hi", "examples": "", "prompt": "", "logo": ""}
    return (await form.save(filled(form._view, **values | changes)))[form._view.line]


@pytest.mark.long
async def test_a_profile_is_shown_and_saved(form: BotPageHandlers, settings: Settings, database: Database) -> None:
    view = form._view
    shown = await form.show(NAMES[0])
    assert (shown[view.greeting], shown[view.examples]) == ("Hello there.", "One?\nTwo?")
    assert "Upload an image first" in (await form.choose_uploaded_logo())[view.line]
    logo = Files(settings, database).store("logo.png", PNG, "bot-logo").id
    assert (await form.choose_uploaded_logo())[view.logo] == logo
    assert "Saved" in await save(form, examples="Where?\n\n When? ", prompt="Be kind.", logo=logo)
    profile = Registry(database).resolve(NAMES[0]).bot
    assert profile is not None
    assert (profile.title, profile.examples, profile.system_prompt, profile.logo) == (
        "Shop", ("Where?", "When?"), "Be kind.", logo,
    )  # fmt: skip
    assert (await form.show(NAMES[0]))[view.remove_logo]["visible"] is True
    assert (await form.remove_logo())[view.logo] == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": " "}, "Enter a title and a greeting"),
        ({"greeting": "x" * 2001}, "The greeting is too long: use 2,000 characters at most."),
        ({"examples": "a\nb\nc\nd\ne"}, "up to 4 examples"),
        ({"which": None}, "Choose a model first"),
    ],
)
@pytest.mark.long
async def test_an_invalid_form_shows_an_error_line(
    form: BotPageHandlers, changes: dict[str, Any], message: str
) -> None:
    assert message in await save(form, **changes)


async def test_a_logo_must_be_a_bitmap(form: BotPageHandlers, settings: Settings, database: Database) -> None:
    for content, message in ((b"<svg onload='x'/>", "PNG, JPEG or WebP"), (PNG + bytes(1_000_000), "1 MB at most")):
        Files(settings, database).store("logo.png", content, "bot-logo")
        assert message in (await form.choose_uploaded_logo())[form._view.line]


def test_the_page_is_sent_with_greeting_examples_and_logo(open_page: Page) -> None:
    registry, browser = Registry(open_page.database), open_page.browser()
    name = NAMES[2]  # its name has a slash
    assert browser.get(f"/bot/{name}/logo").status_code == 404
    profile = registry.resolve(name).bot
    assert profile is not None
    logo = Files(open_page.settings, open_page.database).store("logo.png", PNG, "bot-logo").id
    other = Files(open_page.settings, open_page.database).store("data.jsonl", b"secret", "fine-tune").id
    try:
        registry.set_bot(name, profile.model_copy(update={"logo": logo, "greeting": "Hello </script>'"}))
        page = browser.get(f"/bot/{name}/").text
        before_gradio = page.partition("<gradio-app")[0]
        assert "Hello &lt;/script&gt;" in before_gradio
        assert f"logo?v={logo}" in before_gradio
        config = page.partition("window.gradio_config = ")[2].partition(";</script>")[0]
        assert "Hello \\u003c/script\\u003e" in config
        parts = {each["props"].get("elem_id"): each["props"] for each in orjson.loads(config)["components"]}
        assert (parts["bot-chip-1"]["value"], parts["bot-chip-1"]["visible"]) == ("One?", True)
        assert parts["bot-chip-3"]["visible"] is False
        image = browser.get(f"/bot/{name}/logo")
        assert (image.status_code, image.headers["content-type"], image.content) == (200, "image/png", PNG)
        registry.set_bot(name, profile.model_copy(update={"logo": other}))
        assert browser.get(f"/bot/{name}/logo").status_code == 404  # no other stored file can be read this way
    finally:
        registry.set_bot(name, profile)
