"""Stored chat completions and feedback on a gateway, with the SDK: which answers are stored, and how."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionStoreMessage

from models.api import routes
from models.completions.answers import read_answer
from models.completions.feedback import list_feedback
from models.completions.stored_completions import StoredCompletions
from models.database import Database, utcnow
from models.errors import Invalid
from models.keys import create_key
from models.settings.settings import Settings
from models.tables import StoredCompletionRow
from serve.accounting.completion_log import check_metadata
from tests.fakes.openai_chat import FakeChat
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PacedUpstream

ASKED: Any = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": [{"type": "text", "text": "hello"}]},
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[PacedUpstream]:
    with PacedUpstream(chunks=3) as server:
        yield server


@pytest.fixture
def gateway(settings: Settings, database: Database, upstream: PacedUpstream) -> Iterator[Serving]:
    with serving(settings, database, routes(settings, database)) as running:
        running.hosted("whole", base_url=f"{upstream.address}/v1")
        yield running


def client_of(gateway: Serving, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0)


def wait(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 10
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def ask(client: openai.OpenAI, **options: Any) -> ChatCompletion:
    return client.chat.completions.create(model="whole", messages=ASKED, **options)


def test_a_completion_is_stored_listed_changed_and_deleted(gateway: Serving) -> None:
    client = client_of(gateway)
    answer = ask(client, store=True, metadata={"desk": "refunds"}, temperature=0.5, seed=7, user="ada")
    ask(client)  # not stored
    (stored,) = wait(lambda: client.chat.completions.list().data)
    assert stored == client.chat.completions.retrieve(answer.id)
    assert (stored.id, stored.choices, stored.usage) == (answer.id, answer.choices, answer.usage)
    kept = stored.model_dump()
    assert (kept["metadata"], kept["temperature"], kept["seed"], kept["top_p"]) == ({"desk": "refunds"}, 0.5, 7, 1.0)
    assert (kept["input_user"], kept["tools"], kept["request_id"]) == ("ada", None, answer._request_id)
    messages = client.chat.completions.messages.list(answer.id).data
    assert all(isinstance(message, ChatCompletionStoreMessage) for message in messages)
    assert [(m.id, m.role, m.content) for m in messages] == [
        (f"{answer.id}-0", "system", "Be short."), (f"{answer.id}-1", "user", "hello"),
    ]  # fmt: skip
    assert messages[1].content_parts is not None
    assert [part.model_dump()["text"] for part in messages[1].content_parts] == ["hello"]
    assert [m.role for m in client.chat.completions.messages.list(answer.id, order="desc", limit=1)] == [
        "user",
        "system",
    ]
    changed = client.chat.completions.update(answer.id, metadata={"desk": "sales"})
    assert changed.model_dump()["metadata"] == {"desk": "sales"}
    assert client.chat.completions.list(metadata={"desk": "refunds"}).data == []
    assert len(client.chat.completions.list(metadata={"desk": "sales"}, model="whole").data) == 1
    assert client.chat.completions.list(model="other").data == []
    assert client.chat.completions.delete(answer.id).deleted is True
    with pytest.raises(openai.NotFoundError, match="There is no stored completion"):
        client.chat.completions.retrieve(answer.id)


def test_a_stream_is_stored_as_the_completion_that_it_is(gateway: Serving) -> None:
    client = client_of(gateway)
    whole = ask(client)
    stream = client.chat.completions.create(model="whole", messages=ASKED, stream=True, store=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    (stored,) = wait(lambda: client.chat.completions.list().data)
    assert stored.choices[0].message.content == text
    assert stored.usage == whole.usage  # although the client did not request it


def test_pages_continue_and_keys_read_only_their_own(gateway: Serving, database: Database) -> None:
    ada, ben = (create_key(database, name=name, role="client") for name in ("ada", "ben"))
    owner = create_key(database, name="owner", role="owner")
    gateway.seen(lambda snapshot: len(snapshot.keys) == 3)
    for key in (ada, ada, ada, ben):
        ask(client_of(gateway, key), store=True)
    wait(lambda: len(client_of(gateway, owner).chat.completions.list(limit=4).data) == 4)
    ids = [each.id for each in client_of(gateway, ada).chat.completions.list(limit=2)]
    assert len(set(ids)) == 3
    newest = client_of(gateway, owner).chat.completions.list(limit=1, order="desc")
    assert newest.data[0].id not in ids
    assert newest.has_more
    with pytest.raises(openai.NotFoundError):
        client_of(gateway, ben).chat.completions.retrieve(ids[0])
    with pytest.raises(openai.NotFoundError):
        client_of(gateway, ben).chat.completions.delete(ids[0])
    with pytest.raises(openai.BadRequestError, match="limit must be"):
        client_of(gateway, ada).chat.completions.list(limit=101)


@pytest.mark.parametrize(
    ("policy", "store", "stored"), [("all", None, True), ("all", False, False), ("never", True, False)]
)
def test_a_setting_chooses_what_is_stored(
    settings: Settings, database: Database, upstream: PacedUpstream, policy: str, store: bool | None, stored: bool
) -> None:
    chosen = settings.model_copy(update={"store_completions": policy, "completion_retention_days": 1})
    with serving(chosen, database, routes(chosen, database)) as running:
        running.hosted("whole", base_url=f"{upstream.address}/v1")
        ask(client_of(running), store=store)
    with database.read() as session:
        rows = session.query(StoredCompletionRow).all()
        assert len(rows) == stored  # a stop of the gateway loses nothing
        assert all(timedelta(hours=23) < row.expires - utcnow() < timedelta(hours=25) for row in rows)


def test_expired_completions_are_deleted(gateway: Serving, database: Database) -> None:
    client = client_of(gateway)
    for _ in range(2):  # this upstream gives every answer the same id
        ask(client, store=True)
    first, second = wait(lambda: len(found := client.chat.completions.list().data) == 2 and found)
    with database.write() as session:
        session.get_one(StoredCompletionRow, first.id).expires = utcnow() - timedelta(seconds=1)
    assert StoredCompletions(database).delete_expired() == 1
    assert [each.id for each in client.chat.completions.list()] == [second.id]


def test_a_wrong_request_to_store_is_a_400(gateway: Serving) -> None:
    client = client_of(gateway)
    wrong: Any = "yes"
    with pytest.raises(openai.BadRequestError, match="store must be true or false"):
        ask(client, store=wrong)
    with pytest.raises(openai.BadRequestError, match="at most 16 pairs"):
        ask(client, store=True, metadata={"long": "x" * 513})
    for metadata in ({"n": 3}, ["a"], {str(n): "x" for n in range(17)}, {"x" * 65: "y"}):
        with pytest.raises(Invalid):
            check_metadata(metadata)


def test_feedback_may_precede_the_completion_and_is_stored_once(gateway: Serving, database: Database) -> None:
    client = client_of(gateway)
    body = {
        "id": "chatcmpl-later", "name": "helpful", "value": False, "correction": "Within 5 days.",
        "source": {"kind": "human", "id": "desk-3"}, "idempotency_key": "k1",
    }  # fmt: skip
    first = client.post("/feedback", body=body, cast_to=dict[str, Any])
    assert client.post("/feedback", body=body, cast_to=dict[str, Any]) == first
    assert (first["answer_id"], first["value"], first["source"]) == ("chatcmpl-later", False, body["source"])
    with pytest.raises(openai.ConflictError):
        client.post("/feedback", body=body | {"value": True}, cast_to=dict[str, Any])
    client.post("/feedback", body={"id": "chatcmpl-later", "value": 0.5}, cast_to=dict[str, Any])
    listed = client.get("/feedback?id=chatcmpl-later", cast_to=dict[str, Any])["data"]
    assert [(each["name"], each["value"]) for each in listed] == [("helpful", False), ("rating", 0.5)]
    for wrong in ({"id": "x"}, {"value": 1}, {"id": "x", "value": [1]}, {"id": "x", "value": 1, "vote": 2}):
        with pytest.raises(openai.BadRequestError):
            client.post("/feedback", body=wrong, cast_to=dict[str, Any])
    ada = create_key(database, name="ada", role="client")
    create_key(database, name="owner", role="owner")
    gateway.seen(lambda snapshot: len(snapshot.keys) == 2)
    client_of(gateway, ada).post("/feedback", body={"id": "a", "value": "good"}, cast_to=dict[str, Any])
    with pytest.raises(openai.PermissionDeniedError):
        client_of(gateway, ada).get("/feedback", cast_to=dict[str, Any])


def test_calls_refusals_and_log_probabilities_of_a_stream_are_joined() -> None:
    def frame(delta: str, more: str = "") -> bytes:
        return f'data: {{"id": "c", "model": "m", "choices": [{{"index": 0, "delta": {delta}{more}}}]}}\n\n'.encode()

    stream = b"".join(
        (
            frame('{"role": "assistant", "reasoning_content": "Hm"}'),
            frame('{"reasoning_content": "m."}', ', "logprobs": {"content": [1]}'),
            frame('{"tool_calls": [{"index": 1, "id": "t2", "function": {"name": "b", "arguments": "{"}}]}'),
            frame('{"tool_calls": [{"index": 0, "id": "t1", "function": {"name": "a", "arguments": "{}"}}]}'),
            frame('{"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]}', ', "finish_reason": "tool_calls"'),
            b'data: {"id": "c", "choices": [], "usage": {"total_tokens": 3}}\n\ndata: [DONE]\n\n',
        )
    )
    answer = read_answer(stream, stream=True)
    (choice,) = answer["choices"]
    assert (answer["usage"], answer["object"]) == ({"total_tokens": 3}, "chat.completion")
    assert choice["message"]["reasoning_content"] == "Hmm."
    assert [(call["id"], call["function"]) for call in choice["message"]["tool_calls"]] == [
        ("t1", {"name": "a", "arguments": "{}"}), ("t2", {"name": "b", "arguments": "{}"}),
    ]  # fmt: skip
    assert (choice["finish_reason"], choice["logprobs"]) == ("tool_calls", {"content": [1]})
    for broken in (b"", b"{}", b'{"choices": []}', b"data: {"):
        with pytest.raises(ValueError, match=r"(?i)not a chat completion|unexpected|input"):
            read_answer(broken, stream=broken.startswith(b"data"))


def test_the_programs_of_the_guide_run(gateway: Serving, upstream: PacedUpstream, capsys: Any) -> None:
    gateway.hosted("support-concise", base_url=f"{upstream.address}/v1", model="whole")
    guide = (Path(__file__).parents[3] / "docs" / "stored-completions.md").read_text("utf-8")
    store, responses, feedback = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    names: dict[str, Any] = {}
    exec(store.replace("http://127.0.0.1:8000/v1", gateway.base_url).partition("for stored in")[0], names)
    wait(lambda: names["client"].chat.completions.list().data)
    exec("for stored in" + store.partition("for stored in")[2] + feedback, names)
    printed = capsys.readouterr().out
    assert names["answer"].choices[0].message.content.strip() in printed
    assert "Where is my order 73194628?" in printed
    with FakeChat() as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_ANSWERS_KEY", fake.key)
        gateway.hosted("large", base_url=fake.base_url, model="fake-large", credential="FAKE_ANSWERS_KEY")
        asked = responses.replace("support-concise", "large").replace("http://127.0.0.1:8000/v1", gateway.base_url)
        exec(asked, {})
    assert capsys.readouterr().out.splitlines() == [
        "You said: Please cancel it.", "user Where is my order 73194628?",
        "assistant You said: Where is my order 73194628?", "user Please cancel it.",
    ]  # fmt: skip
    (given,) = list_feedback(gateway.database)[0]
    assert (given.feedback.name, given.feedback.correction) == ("helpful", "It arrives on Friday.")
