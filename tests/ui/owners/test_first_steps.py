"""An owner's first steps: their state is read from the home, and they disappear once all are done."""

from typing import Any

import orjson
import pytest

from models.database import Database
from models.files.stored_files import Files
from models.jobs.jobs import claim, enqueue, finish
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream
from tests.ui.conftest import NAMES, Page, register_models
from ui.backend.context import PageContext
from ui.owners.first_steps import Step, first_steps, steps_html


def test_each_step_follows_what_the_home_has(settings: Settings, database: Database) -> None:
    register_models(database, "http://127.0.0.1:9/v1")
    context = PageContext(settings, database)
    assert [(step.state, step.done) for step in first_steps(context)] == [
        ("no file yet", False), ("no fine-tune yet", False), ("3 models ready", False), ("0 votes", False),
    ]  # fmt: skip
    html = steps_html(first_steps(context))
    assert html.count("class='next'") == 1
    assert html.index("class='next'") < html.index("Check your data")
    Files(settings, database).store("a.jsonl", b"{}", "fine-tune")
    upstream = Upstream(base_url="http://127.0.0.1:9/v1", model="ft:gpt-4o:acme::1")
    Registry(database).register(ModelSpec(id="tuned", kind="hosted", upstream=upstream))
    job = enqueue(database, "judge", {})
    claim(database, "worker")
    finish(database, job, "worker", result={})
    states = [(step.state, step.done) for step in first_steps(context)]
    assert states == [("1 file uploaded", True), ("tuned", True), ("1 report", True), ("0 votes", False)]


def test_the_steps_disappear_once_all_are_done() -> None:
    assert steps_html([Step("Data", "Data", "2 <files>", True)]) == ""
    assert "2 &lt;files&gt;" in steps_html([Step("Data", "Data", "2 <files>", False)])


@pytest.mark.long
def test_the_page_is_sent_with_its_values(open_page: Page) -> None:
    """The lists, the link to the vote and the steps are in the page itself, before any event of Gradio."""
    page = open_page.browser().get("/").text
    text = page.partition("window.gradio_config = ")[2].partition(";</script>")[0]
    components: list[dict[str, Any]] = orjson.loads(text)["components"]
    props = {component["props"].get("elem_id"): component["props"] for component in components}
    assert [value for _, value in props["chat-model"]["choices"]] == sorted(NAMES)
    assert props["chat-model"]["value"] in NAMES
    assert len(props["compare-models"]["value"]) == 2
    assert "Train a model" in props["steps"]["value"]
    assert "data-parley='ask'" in props["chat-examples"]["value"]
    assert any("href='/vote/'" in str(component["props"].get("value")) for component in components)
    assert "<b>bot</b>" not in page  # no text of a model can end the script
