"""The page against known classes of Gradio advisories: hidden values, forged state, private handlers, threads.

tests/serve/test_advisories.py lists the classes. tests/ui/access/test_router.py checks access to each app.
"""

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest
from starlette.testclient import TestClient

from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from models.database import new_ulid
from tests.ui.conftest import NAMES, Page
from ui.gradio_server import create_gradio_server

BATTLE = "a-battle-of-another-voter-0123456789"


@pytest.fixture(scope="module")
def rater(open_page: Page) -> Iterator[TestClient]:
    """A rater's browser, while the page runs; another rater's battle is open."""
    with open_page.database.write() as session:
        prompt, pair = new_ulid(), new_ulid()
        session.add(PromptRow(id=prompt, digest="d" * 64, messages=[{"role": "user", "content": "?"}], source="test"))
        session.flush()
        session.add(
            PairRow(id=pair, prompt_id=prompt, model_1=NAMES[0], model_2=NAMES[1], answer_1="one", answer_2="two")
        )
        session.flush()
        session.add(BattleRow(id=BATTLE, pair_id=pair, voter="somebody-else", flipped=False))
    # Gradio answers a number that it does not know with a 500.
    with TestClient(open_page.app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        client.get("/vote/")
        yield client


def called(client: TestClient, number: int, data: list[Any]) -> str:
    """All events of the handler with that number."""
    body = {"fn_index": number, "data": data, "session_hash": f"forged{number}", "event_data": None}
    joined = client.post("/vote/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.text
    return client.get(f"/vote/gradio_api/queue/data?session_hash=forged{number}").text


def test_the_raters_app_has_no_events_and_no_state(rater: TestClient, open_page: Page) -> None:
    """A client's own value for a state reaches no handler; votes are plain routes."""
    config = rater.get("/vote/config").json()
    assert config["dependencies"] == []
    assert "state" not in {component["type"] for component in config["components"]}
    assert BATTLE not in json.dumps(config)
    for number in range(8):
        assert not any(name in called(rater, number, [BATTLE]) for name in NAMES)
    with open_page.database.read() as session:
        assert session.get(VoteRow, BATTLE) is None


def test_handlers_of_other_apps_have_no_number_here(rater: TestClient, open_page: Page) -> None:
    """Private handlers respond to their fn_index, so an owner's handlers are in no app that a rater can reach."""
    own = {dependency["id"] for dependency in rater.get("/vote/config").json()["dependencies"]}
    owners = {dependency["id"] for dependency in open_page.browser().get("/config").json()["dependencies"]}
    strange = sorted(owners - own)[-5:]
    assert strange
    for number in [*strange, 10_000, -1]:
        answer = called(rater, number, [])
        assert "process_completed" not in answer or '"success":false' in answer
        assert not any(name in answer for name in NAMES)


@pytest.mark.long
def test_streams_are_not_held_up_by_a_few_threads() -> None:
    blocks = gr.Blocks()
    create_gradio_server(blocks, "/x")
    assert blocks.max_threads >= 400
    assert blocks._queue.max_thread_count >= 400
