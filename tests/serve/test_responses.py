"""Stored responses on a gateway, with the SDK: continued, retrieved, listed, deleted; which are stored, for whom."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseItemList

from models.api import routes
from models.completions.stored_completions import StoredCompletion, StoredCompletions
from models.database import Database, open_database, utcnow
from models.keys import create_key
from models.settings.settings import Settings, load_settings
from models.tables import StoredCompletionRow
from tests.fakes.openai_chat import FakeChat
from tests.serve.gateways import Serving, serving

TOOL: Any = {
    "type": "function", "name": "weather", "strict": True,
    "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": False,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeChat]:
    with FakeChat() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_ANSWERS_KEY", server.key)
        yield server


@pytest.fixture
def gateway(settings: Settings, database: Database, fake: FakeChat) -> Iterator[Serving]:
    with serving(settings, database, routes(settings, database)) as running:
        add_model(running, fake)
        yield running


def add_model(gateway: Serving, fake: FakeChat, name: str = "large") -> None:
    gateway.hosted(name, base_url=fake.base_url, model="fake-large", credential="FAKE_ANSWERS_KEY")


def client_of(gateway: Serving, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0, _strict_response_validation=True)


def ask(client: openai.OpenAI, text: Any, previous: str | None = None, **options: Any) -> Response:
    return client.responses.create(model="large", input=text, previous_response_id=previous, **options)


def sent(fake: FakeChat) -> dict[str, Any]:
    """The last request that the upstream got."""
    return fake.requests[-1].json()


def raw(response: Response, name: str) -> Any:
    return (response.model_extra or {}).get(name)


def test_a_response_is_continued_retrieved_listed_and_deleted(gateway: Serving, fake: FakeChat) -> None:
    client = client_of(gateway)
    first = ask(client, "hello", instructions="Be short.", metadata={"desk": "orders"})
    second = ask(client, [{"role": "user", "content": [{"type": "input_text", "text": "again"}]}], first.id)
    assert (first.previous_response_id, second.previous_response_id) == (None, first.id)
    assert (raw(first, "store"), raw(second, "store")) == (True, True)
    assert second.usage is not None
    assert second.usage.input_tokens == 3 * 8
    assert [(item["role"], item["content"]) for item in sent(fake)["input"][::2]] == [
        ("user", "hello"), ("user", [{"type": "input_text", "text": "again"}]),
    ]  # fmt: skip
    assert "previous_response_id" not in sent(fake)
    assert not sent(fake).get("instructions")  # not carried over
    assert client.responses.retrieve(second.id) == second
    assert client.responses.retrieve(first.id).metadata == {"desk": "orders"}
    items = client.responses.input_items.list(second.id, order="asc")
    assert [(item.type, item.role) for item in items] == [("message", role) for role in ("user", "assistant", "user")]  # type: ignore[union-attr] -- messages
    newest = client.responses.input_items.list(second.id, limit=2)
    assert (newest.data[0].content[0].text, newest.has_more) == ("again", True)  # type: ignore[union-attr] -- a message
    assert [item.id for item in newest] == [item.id for item in items][::-1]  # the SDK reads the next page with `after`
    assert isinstance(newest, openai.pagination.SyncCursorPage)
    page = client.get(f"/responses/{second.id}/input_items", cast_to=ResponseItemList)
    assert page.first_id == newest.data[0].id
    with pytest.raises(openai.NotFoundError, match="There is no item 'msg_x'"):
        client.responses.input_items.list(second.id, after="msg_x")
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError, match=f"Response with id '{second.id}' not found"):
        client.responses.retrieve(second.id)
    deleted = client.delete(f"/responses/{first.id}", cast_to=dict[str, Any])
    assert deleted == {"id": first.id, "object": "response", "deleted": True}


def test_streams_and_tool_calls_survive_in_a_conversation(gateway: Serving, fake: FakeChat) -> None:
    client = client_of(gateway)
    with client.responses.stream(model="large", input="Is it wet in Oslo?", tools=[TOOL]) as stream:
        events = list(stream)
        first = stream.get_final_response()
    assert events[0].type == "response.created"
    assert raw(events[0].response, "store") is True
    call = first.output[0]
    assert call.type == "function_call"
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    with client.responses.stream(model="large", input=result, tools=[TOOL], previous_response_id=first.id) as stream:
        shown = [event.response.previous_response_id for event in stream if "response" in event.model_fields_set]
        second = stream.get_final_response()
    assert shown == [first.id, first.id]
    assert second.output_text == "You said: rain"
    assert [item.get("type", "message") for item in sent(fake)["input"]] == [
        "message", "function_call", "function_call_output",
    ]  # fmt: skip
    assert sent(fake)["input"][1]["call_id"] == call.call_id
    assert client.responses.retrieve(second.id).previous_response_id == first.id
    kinds = [item.type for item in client.responses.input_items.list(second.id)]
    assert kinds == ["function_call_output", "function_call", "message"]


@pytest.mark.long
def test_a_conversation_of_200_turns_and_many_at_once(gateway: Serving, fake: FakeChat) -> None:
    client, stored = client_of(gateway), StoredCompletions(gateway.database)
    stored.add(turn_of("large", number) for number in range(199))
    last = ask(client, "turn 199", "resp_turn_198")
    assert last.usage is not None
    assert last.usage.input_tokens == 8 * 399
    assert [item["content"] for item in sent(fake)["input"][::2]] == [f"turn {number}" for number in range(200)]
    answers: dict[int, Response] = {}

    def branch(number: int) -> None:
        answers[number] = ask(client, f"branch {number}", last.id)

    threads = [threading.Thread(target=branch, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.output_text for answer in answers.values()} == {f"You said: branch {number}" for number in range(8)}
    assert {answer.usage.input_tokens for answer in answers.values() if answer.usage} == {8 * 401}
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, [{"role": "user", "content": "x"}] * 2000, last.id)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")


def turn_of(model: str, number: int, previous: str | None = None, **options: Any) -> StoredCompletion:
    """A stored turn that continues the one with the number before."""
    text = {"type": "output_text", "text": f"You said: turn {number}", "annotations": []}
    message = {"type": "message", "id": f"msg_t{number}", "role": "assistant", "status": "completed", "content": [text]}
    answer = {"id": f"resp_turn_{number}", "object": "response", "status": "completed", "output": [message]}
    if previous is None and number:
        previous = f"resp_turn_{number - 1}"
    return StoredCompletion(
        answer["id"], utcnow(), model, "", f"req_{number}", {"input": f"turn {number}"}, answer, {},
        kind="response", previous_id=previous, **options,
    )  # fmt: skip


def test_a_key_sees_its_own_and_an_unknown_id_is_openais_error(gateway: Serving, fake: FakeChat) -> None:
    names = {name: create_key(gateway.database, name=name, role=role) for name, role in (
        ("ada", "client"), ("bob", "client"), ("boss", "owner"),
    )}  # fmt: skip
    gateway.seen(lambda snapshot: snapshot.keys_needed)
    ada, bob, boss = (client_of(gateway, key) for key in names.values())
    first = ask(ada, "a secret")
    requests = len(fake.requests)
    with pytest.raises(openai.BadRequestError) as refused:
        ask(bob, "what was it?", first.id)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")
    assert refused.value.body["message"] == f"Previous response with id '{first.id}' not found."  # type: ignore[index] -- an error's body
    assert len(fake.requests) == requests, "another key's id is not passed on"
    for read in (bob.responses.retrieve, bob.responses.delete, bob.responses.input_items.list, bob.responses.cancel):
        with pytest.raises(openai.NotFoundError, match="not found"):
            read(first.id)
    assert boss.responses.retrieve(first.id).id == first.id
    second = ask(boss, "go on", first.id)
    with pytest.raises(openai.BadRequestError, match="not found"):
        ask(ada, "and now?", second.id)
    # A turn that claims to continue another key's response shows nothing of it.
    stored = StoredCompletions(gateway.database)
    theirs = stored.get(second.id)
    bobs = ask(bob, "mine")
    with gateway.database.write() as session:
        row = session.get(StoredCompletionRow, wait_for(stored, bobs.id).id)
        assert row is not None
        row.previous_id = first.id
    assert [item.content[0].text for item in bob.responses.input_items.list(bobs.id)] == ["mine"]  # type: ignore[union-attr] -- messages
    assert theirs.previous_id == first.id


def wait_for(stored: StoredCompletions, response_id: str) -> StoredCompletion:
    deadline = time.monotonic() + 10
    while True:
        try:
            return stored.get(response_id)
        except LookupError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_an_engine_gets_no_unknown_ids_and_an_upstream_does(gateway: Serving, fake: FakeChat) -> None:
    client = client_of(gateway)
    ask(client, "hello", "resp_elsewhere")
    assert sent(fake)["previous_response_id"] == "resp_elsewhere"
    gateway.engine("local", gateway.settings.home / "weights", None)
    for wrong in ("resp_none", "' OR 1=1 --", "", "x" * 300, "resp_\0", "resp_\u2603"):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="local", input="hello", previous_response_id=wrong)
        assert refused.value.code == "previous_response_not_found"
    for wrong in (7, ["resp_1"], {"id": "resp_1"}, True):
        with pytest.raises(openai.BadRequestError, match="must be the id of a response"):
            ask(client, "hello", wrong)  # type: ignore[arg-type] -- wrong on purpose
    reference: Any = [{"type": "item_reference", "id": "msg_1"}]
    with pytest.raises(openai.BadRequestError, match="References to items") as refused:
        client.responses.create(model="local", input=reference)
    assert refused.value.param == "input"
    first = ask(client, "hello")
    for wrong in (7, {"role": "user"}):
        with pytest.raises(openai.BadRequestError, match="input must be a text or a list of items"):
            ask(client, wrong, first.id)
    assert ask(client, None, first.id).usage.input_tokens == 8 * 2  # type: ignore[union-attr] -- it has usage


def test_a_conversation_with_a_deleted_turn_is_not_continued_silently(gateway: Serving, fake: FakeChat) -> None:
    client = client_of(gateway)
    add_model(gateway, fake, "other")
    first = ask(client, "hello")
    second = ask(client, "again", first.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError, match=f"'{first.id}' not found: '{second.id}' continues it") as refused:
        client.responses.create(model="other", input="and now?", previous_response_id=second.id)
    assert refused.value.code == "previous_response_not_found"
    # The model's own upstream may still have it.
    ask(client, "and now?", second.id)
    assert sent(fake)["previous_response_id"] == second.id
    assert [item.content[0].text for item in client.responses.input_items.list(second.id)] == ["again"]  # type: ignore[union-attr] -- messages
    # A turn whose conversation is stored at the upstream.
    third = ask(client, "hello", extra_body={"conversation": "conv_1"})
    with pytest.raises(openai.BadRequestError, match="continues a conversation that is not stored here"):
        client.responses.create(model="other", input="and now?", previous_response_id=third.id)


def test_reasoning_goes_only_to_the_model_that_it_comes_from(gateway: Serving, fake: FakeChat) -> None:
    client, stored = client_of(gateway), StoredCompletions(gateway.database)
    add_model(gateway, fake, "other")
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA", "status": None}
    text = {"type": "output_text", "text": "Yes.", "annotations": [], "logprobs": [{"token": "Y", "top_logprobs": []}]}
    message = {"type": "message", "id": "msg_9", "role": "assistant", "status": "completed", "content": [text]}
    answer = {"id": "resp_t", "object": "response", "status": "completed", "output": [thought, message]}
    stored.add(
        [StoredCompletion("resp_t", utcnow(), "large", "", "req_t", {"input": "Is it?"}, answer, {}, kind="response")]
    )
    ask(client, "sure?", "resp_t")
    assert [item["type"] for item in sent(fake)["input"]] == ["message", "reasoning", "message", "message"]
    assert sent(fake)["input"][1] == {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    assert "id" not in sent(fake)["input"][2]
    assert "logprobs" not in sent(fake)["input"][2]["content"][0]
    client.responses.create(model="other", input="sure?", previous_response_id="resp_t")
    assert [item["type"] for item in sent(fake)["input"]] == ["message", "message", "message"]


@pytest.mark.parametrize(
    ("policy", "store", "is_stored"),
    [("all", None, True), ("all", False, False), ("on_request", None, False), ("on_request", True, True),
     ("never", None, False)],
)  # fmt: skip
def test_the_setting_decides_what_is_stored(
    settings: Settings, database: Database, fake: FakeChat, policy: str, store: bool | None, is_stored: bool
) -> None:
    chosen = settings.model_copy(update={"store_responses": policy, "completion_retention_days": 1})
    with serving(chosen, database, routes(chosen, database)) as gateway:
        add_model(gateway, fake)
        client = client_of(gateway)
        answer = ask(client, "hello", store=store)
        if is_stored:
            client.responses.retrieve(answer.id)
            expires = StoredCompletions(database).get(answer.id).expires
            assert expires is not None
            assert timedelta(hours=23) < expires - utcnow() <= timedelta(days=1)
        else:
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(answer.id)


@pytest.mark.parametrize("setting", ["store_responses", "store_completions"])
def test_a_server_that_stores_nothing_says_so(
    settings: Settings, database: Database, fake: FakeChat, setting: str
) -> None:
    chosen = settings.model_copy(update={setting: "never"})
    with serving(chosen, database, routes(chosen, database)) as gateway:
        add_model(gateway, fake)
        gateway.engine("local", gateway.settings.home / "weights", None)
        client = client_of(gateway)
        for field in ({"store": True}, {"previous_response_id": "resp_1"}):
            with pytest.raises(openai.BadRequestError, match="This server does not store responses") as refused:
                client.responses.create(model="local", input="hello", **field)  # type: ignore[call-overload] -- one field
            assert refused.value.param == next(iter(field))
        ask(client, "hello", "resp_theirs", store=True)
        assert (sent(fake)["previous_response_id"], sent(fake)["store"]) == ("resp_theirs", True)


def test_personal_data_is_masked_before_it_is_stored(settings: Settings, database: Database, fake: FakeChat) -> None:
    chosen = settings.model_copy(update={"store_masked": True})
    with serving(chosen, database, routes(chosen, database)) as gateway:
        add_model(gateway, fake)
        client = client_of(gateway)
        said = "Write to ada.lovelace@engines.com or +44 20 7946 0958."
        first = ask(client, said, metadata={"from": "ada.lovelace@engines.com"})
        assert first.output_text == f"You said: {said}"
        kept = client.responses.retrieve(first.id)
        assert (kept.output_text, kept.metadata) == ("You said: Write to [EMAIL] or [PHONE].", {"from": "[EMAIL]"})
        second = ask(client, "go on", first.id)
        assert sent(fake)["input"][0]["content"] == "Write to [EMAIL] or [PHONE]."
        chat = client.chat.completions.create(model="large", messages=[{"role": "user", "content": said}], store=True)
        body = {"id": chat.id, "correction": f"No: {said}"}
        assert client.post("/feedback", body=body, cast_to=dict[str, Any])["correction"] == (
            "No: Write to [EMAIL] or [PHONE]."
        )
        client.responses.retrieve(second.id)  # the writer has stored everything before it
        messages = client.get(f"/chat/completions/{chat.id}/messages", cast_to=dict[str, Any])
        assert messages["data"][0]["content"] == "Write to [EMAIL] or [PHONE]."
        assert client.chat.completions.retrieve(chat.id).choices[0].message.content == (
            "You said: Write to [EMAIL] or [PHONE]."
        )


def test_what_is_refused_is_refused_in_words(gateway: Serving) -> None:
    client = client_of(gateway)
    first = ask(client, "hello")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(first.id)
    with pytest.raises(openai.BadRequestError, match="retrieve the response without stream"):
        client.responses.retrieve(first.id, stream=True)
    assert client.responses.retrieve(first.id, include=["message.output_text.logprobs"]).id == first.id
    with pytest.raises(openai.BadRequestError, match="include 'everything' is not valid"):
        client.responses.retrieve(first.id, include=["everything"])  # type: ignore[list-item] -- wrong on purpose
    for limit in (0, 101):
        with pytest.raises(openai.BadRequestError, match="limit must be an integer from 1 to 100"):
            client.responses.input_items.list(first.id, limit=limit)
    with pytest.raises(openai.BadRequestError, match="order must be asc or desc"):
        client.responses.input_items.list(first.id, order="up")  # type: ignore[arg-type] -- wrong on purpose
    with pytest.raises(openai.BadRequestError, match="store must be true or false"):
        ask(client, "hello", store="yes")
    with pytest.raises(openai.BadRequestError, match="metadata of a stored completion"):
        ask(client, "hello", metadata={"n": 1})
    with pytest.raises(openai.APIStatusError, match="This route takes DELETE and GET"):
        client.post("/responses/compact", body={}, cast_to=dict)
    # A response is not a chat completion, and the other way round.
    with pytest.raises(openai.NotFoundError, match="There is no stored completion"):
        client.chat.completions.retrieve(first.id)
    assert client.chat.completions.list().data == []


def test_a_turn_keeps_those_before_it_from_expiring(settings: Settings, database: Database) -> None:
    stored, past, soon = StoredCompletions(database), utcnow() - timedelta(days=1), utcnow() + timedelta(days=30)
    stored.add([turn_of("m", 0, expires=past), turn_of("m", 1, expires=past)])
    stored.add([turn_of("m", 3, "resp_gone", expires=past), turn_of("m", 2, expires=soon)])
    assert stored.delete_expired() == 1
    assert [turn.id for turn in stored.turns("resp_turn_2")] == [f"resp_turn_{number}" for number in (2, 1, 0)]


def test_a_circle_of_responses_ends(gateway: Serving) -> None:
    client, stored = client_of(gateway), StoredCompletions(gateway.database)
    stored.add([turn_of("large", 1, "resp_turn_2"), turn_of("large", 2)])
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "hello", "resp_turn_1")
    assert refused.value.code == "context_length_exceeded"
    assert len(client.responses.input_items.list("resp_turn_1", limit=100).data) == 100


@pytest.mark.long
def test_two_gateways_on_one_database(home: Path, migrated_postgres_url: str, fake: FakeChat) -> None:
    """The second gateway waits for what the first one has answered and not stored yet."""
    settings = load_settings(home=home, database_url=migrated_postgres_url)
    with ExitStack() as stack:
        gateways = []
        for _ in range(2):
            database = open_database(settings)
            stack.callback(database.dispose)
            gateways.append(stack.enter_context(serving(settings, database, routes(settings, database))))
        add_model(gateways[0], fake)
        gateways[1].seen(lambda snapshot: "large" in snapshot.routes)
        here, there = (client_of(gateway) for gateway in gateways)
        last = ask(here, "hello\0")
        for turn in range(4):
            last = ask((there, here)[turn % 2], f"turn {turn}", last.id)
        assert last.usage is not None
        assert last.usage.input_tokens == 8 * 9
        assert there.responses.retrieve(last.id) == last
        assert json.dumps(sent(fake)).count("hello") == 2
