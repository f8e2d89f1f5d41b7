"""Synthesis with a fake OpenAI-compatible server on a real socket: requests, kept examples, resuming."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.chat.completer import GatewayCompleter
from models.chat.messages import Completion, Message
from models.errors import Conflict, Invalid
from tests.fakes.http_server import FakeServer, Handler, Request
from train.data.checks import check
from train.data.synthesis import Synthesis, synthesise
from train.data.synthesis_prompts import SynthesisOptions, prompt_for, read_examples

NOUNS = ["anvil", "basket", "candle", "drum", "engine", "feather", "goblet", "hammer", "island", "jacket", "kettle"]
SEEDS = [
    {
        "messages": [
            {"role": "system", "content": "You answer for the shop."},
            {"role": "user", "content": f"Where is the {noun} that I ordered on day {day}?"},
            {"role": "assistant", "content": f"Your {noun} left our store on day {day + 1} and comes soon. Bye!"},
        ]
    }
    for day, noun in enumerate(NOUNS)
]


class FakeChat(FakeServer):
    """A chat server whose answers are a function of the number of requests."""

    def __init__(self, reply: Callable[[int], str]) -> None:
        self.say = reply
        super().__init__()

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [("POST", "/v1/chat/completions", self.complete)]

    def complete(self, request: Request) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.say(self.count("POST", "/v1/chat/completions"))}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": request.json()["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }


def fresh(number: int) -> str:
    """An answer with a new example."""
    words = [NOUNS[(number * step + step) % len(NOUNS)] for step in (1, 2, 4, 7, 11, 13)]
    row = {
        "messages": [
            {"role": "user", "content": f"{number} {' '.join(words)} {number}?"},
            {"role": "assistant", "content": f"{' '.join(reversed(words))} {number} {number * 7}. Bye!"},
        ]
    }
    return json.dumps(row)


@pytest.fixture
def server() -> Iterator[FakeChat]:
    with FakeChat(fresh) as running:
        yield running


def run(
    server: FakeChat, out: Path, number: int = 10, progress: Any = lambda counted: None, **options: Any
) -> Synthesis:
    """A whole synthesis with the OpenAI SDK against the server."""

    async def whole() -> Synthesis:
        completer = GatewayCompleter(server.address + "/v1", "writer", retries=0)
        try:
            chosen = SynthesisOptions(model="writer", number=number, **options)
            return await synthesise(SEEDS, completer, out, chosen, progress=progress)
        finally:
            await completer.close()

    return asyncio.run(whole())


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_new_examples_are_written_and_marked_as_synthetic(server: FakeChat, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "more.jsonl"
    progress = []
    result = run(server, out, progress=progress.append)
    assert (result.ended, result.counted.made) == ("enough", 10)
    rows = rows_of(out)
    assert len(rows) == 10
    for row in rows:
        metadata = row["metadata"]
        assert metadata["synthetic"] is True
        assert row["messages"][0] == SEEDS[0]["messages"][0]  # the system prompt of all seeds, which the model left out
        assert metadata["model"] == "writer"
        assert len(metadata["prompt_sha256"]) == 64
        assert set(metadata["seed_lines"]) <= set(range(1, len(SEEDS) + 1))
    assert check(out).usable  # the result can be read and trained on
    assert progress[-1].made == 10


def test_the_prompts_have_seeded_examples_and_the_instructions(server: FakeChat, tmp_path: Path) -> None:
    run(server, tmp_path / "a.jsonl", 4, concurrency=1, shots=3, each=2, instructions="Only about boats.")
    body = server.requests[0].json()
    text = body["messages"][1]["content"]
    assert body["model"] == "writer"
    assert body["temperature"] == 1.0
    assert text.count('"messages"') == 3
    assert "Write 2 new" in text
    assert "Only about boats." in text
    examples = check(SEEDS).examples
    options = SynthesisOptions(model="writer", number=4, seed=0, shots=3, each=2)
    assert prompt_for(examples, 7, options) == prompt_for(examples, 7, options)
    assert prompt_for(examples, 7, options) != prompt_for(examples, 8, options)
    assert prompt_for(examples, 7, options) != prompt_for(examples, 7, replace(options, seed=1))


def test_copies_and_near_copies_are_counted_and_thrown_away(tmp_path: Path) -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"

    def reply(number: int) -> str:
        seed = json.dumps(SEEDS[0])
        near = {"messages": [{"role": "user", "content": long}, {"role": "assistant", "content": f"{long} ok"}]}
        nearer = {"messages": [{"role": "user", "content": long}, {"role": "assistant", "content": f"{long} fine"}]}
        return f"```json\n{seed}\n{json.dumps(near)}\n{json.dumps(nearer)}\n```\n" + fresh(number)

    with FakeChat(reply) as server:
        result = run(server, tmp_path / "out.jsonl", 4, concurrency=1)
    assert result.counted.made == 4
    assert result.counted.copies >= 2  # the seed each time, and the first of the two when it is repeated
    assert result.counted.near_copies >= 1


def test_what_cannot_be_used_is_counted_by_its_fault(tmp_path: Path) -> None:
    answers = [
        "I cannot do that.",
        '{"messages": [{"role": "user", "content": "nobody answers"}]}',
        '{"messages": [{"role": "narrator", "content": "x"}, {"role": "assistant", "content": "y"}]}',
        '{"messages": [{"role": "user", "content": "cut o',
    ]

    def reply(number: int) -> str:
        return answers[number - 1] if number <= len(answers) else fresh(number)

    with FakeChat(reply) as server:
        result = run(server, tmp_path / "out.jsonl", 2, concurrency=1)
    assert result.ended == "enough"
    assert (result.counted.unreadable, result.counted.unfit) == (2, 2)


@pytest.mark.long
def test_a_failed_request_is_counted_and_ends_nothing(server: FakeChat, tmp_path: Path) -> None:
    server.fail("POST", "/v1/chat/completions", 500, times=2)
    server.cut("POST", "/v1/chat/completions", after=False)
    result = run(server, tmp_path / "out.jsonl", 5, concurrency=2)
    assert (result.ended, result.counted.made, result.counted.failed) == ("enough", 5, 3)
    assert result.counted.last_error


def test_it_stops_when_nothing_new_comes_and_says_so(tmp_path: Path) -> None:
    with FakeChat(lambda number: fresh(min(number, 3))) as server:
        result = run(server, tmp_path / "out.jsonl", 50, patience=5, concurrency=2)
        assert server.count("POST", "/v1/chat/completions") <= 3 + 5 + 2
    assert (result.ended, result.counted.made) == ("nothing new", 3)
    assert "nothing new" in result.summary


@pytest.mark.long
def test_it_stops_when_the_server_does_not_answer_and_continues_later(server: FakeChat, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    server.fail("POST", "/v1/chat/completions", 503, times=4)
    failed = run(server, out, 6, patience=4, concurrency=1)
    assert (failed.ended, failed.counted.made) == ("failing", 0)
    assert "fault 503" in failed.summary
    assert run(server, out, 6).ended == "enough"
    assert len(rows_of(out)) == 6


def test_a_run_that_was_killed_continues_where_it_was(server: FakeChat, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(server, out, 4, concurrency=1)
    before = rows_of(out)
    # Killed in the middle of a line, before the last request was in the journal.
    journal = out.with_name("out.jsonl.journal")
    journal.write_text("\n".join(journal.read_text("utf-8").splitlines()[:-1]) + "\n", "utf-8")
    with out.open("a", encoding="utf-8") as file:
        file.write('{"messages": [{"role": "us')
    requests_before = server.count("POST", "/v1/chat/completions")
    result = run(server, out, 8, concurrency=1)
    rows = rows_of(out)
    assert rows[:4] == before
    assert result.counted.made == len(rows) == 8
    assert server.count("POST", "/v1/chat/completions") - requests_before == 4
    assert len({row["metadata"]["request"] for row in rows}) == 8  # no request was made twice
    assert run(server, out, 8).ended == "enough"  # and no request is made when it is complete
    assert server.count("POST", "/v1/chat/completions") - requests_before == 4


def test_a_file_of_another_synthesis_is_not_continued(server: FakeChat, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(server, out, 2)
    with pytest.raises(Conflict, match="another shots"):
        run(server, out, 4, shots=1)
    stranger = tmp_path / "mine.jsonl"
    stranger.write_text('{"messages": []}\n', "utf-8")
    with pytest.raises(Conflict, match="no journal"):
        run(server, stranger, 4)
    assert stranger.read_text("utf-8") == '{"messages": []}\n'


def test_requests_at_once_are_limited(tmp_path: Path) -> None:
    running = most = requests = 0

    async def completer(messages: Sequence[Message], **options: Any) -> Completion:
        nonlocal running, most, requests
        running, requests = running + 1, requests + 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return Completion(text=fresh(requests))

    asyncio.run(synthesise(SEEDS, completer, tmp_path / "o.jsonl", SynthesisOptions("m", 20, concurrency=3)))
    assert most == 3


def test_no_seeds_and_senseless_numbers_are_one_line(server: FakeChat, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="number is 0"):
        run(server, tmp_path / "o.jsonl", 0)

    async def never(messages: Sequence[Message], **options: Any) -> Completion:
        raise AssertionError

    with pytest.raises(Invalid, match="no seed"):
        asyncio.run(synthesise([], never, tmp_path / "o.jsonl", SynthesisOptions("m", 1)))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("nothing but words { and [ brackets", 0),
        (fresh(1) + "\n" + fresh(2), 2),
        (f"Sure!\n```json\n[{fresh(1)}, {fresh(2)}, {fresh(3)}]\n```", 3),
        (json.dumps({"examples": "wrong"}), 0),
        (f"{fresh(1)} and then it was cut {fresh(2)[:40]}", 1),
        ("[" * 5000, 0),
    ],
)
def test_examples_are_found_in_whatever_a_model_writes(text: str, count: int) -> None:
    assert len(list(read_examples(text))) == count
