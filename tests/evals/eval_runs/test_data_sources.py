"""Rows become messages, sampling parameters become a request's options, and answers become the graders' input."""

import json
from typing import Any

import pytest

from evals.eval_runs.data_sources import model_parameters, read_rows, run_data
from evals.eval_runs.given_answers import given_completion
from evals.graders.templates import render, sample_values
from evals.tasks.answer_cache import AnswerCache, parameters_hash
from models.chat.completer import read_completion
from models.database import Database
from models.errors import Invalid, NotFound
from models.files.stored_files import Files
from models.settings.settings import Settings

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def messages(wanted: dict[str, Any], item: dict[str, Any]) -> tuple[list[tuple[str, str]], str | None]:
    request = {"type": "completions", "input_messages": wanted}
    data = run_data("name", "source", [{"item": item}], request)
    return [(m.role, m.content) for m in data.task.samples[0].messages], data.errors.get(0)


def test_templates_and_references_become_messages() -> None:
    template = {
        "type": "template",
        "template": [
            {"role": "developer", "content": "Be {{item.tone}}."},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": ["{{item.q}}", {"type": "input_text", "text": "{{item.tags}}"}]},
        ],
    }
    item = {"tone": "kind", "q": "Why?", "tags": ["a", 1]}
    expected = [("system", "Be kind."), ("assistant", "Hello."), ("user", 'Why?\n["a", 1]')]
    assert messages(template, item) == (expected, None)
    assert messages(template, {"tone": "kind"}) == ([], "item.q has no value.")
    reference = {"type": "item_reference", "item_reference": "item.talk"}
    talk = [{"role": "developer", "content": "Hi"}, {"role": "user", "content": [{"type": "text", "text": "Why?"}]}]
    assert messages(reference, {"talk": talk}) == ([("system", "Hi"), ("user", "Why?")], None)
    assert messages(reference, {"talk": "Why?"}) == ([("user", "Why?")], None)
    for odd in ([{"role": "tool", "content": "x"}], 7, [1], [{"role": "user", "content": [{"type": "input_image"}]}]):
        assert messages(reference, {"talk": odd})[1]


def test_sampling_parameters_are_those_of_a_chat_completion() -> None:
    named = {"name": "n", "schema": {"type": "object"}, "strict": True}
    schema = {"type": "json_schema"} | named
    tool = {"type": "function", "name": "weather", "parameters": {}}
    given = {"temperature": 0, "top_p": None, "max_completions_tokens": 7, "text": {"format": schema}, "tools": [tool]}
    assert model_parameters(given) == {
        "temperature": 0,
        "max_completion_tokens": 7,
        "response_format": {"type": "json_schema", "json_schema": named},
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
    }
    assert model_parameters(None) == {}


def test_tool_calls_are_kept_with_the_answer_and_graded(database: Database) -> None:
    answer = {"choices": [{"message": {"content": None, "tool_calls": [CALL]}, "finish_reason": "tool_calls"}]}
    completion = read_completion(answer, 0.1)
    cache = AnswerCache(database, parameters_hash({}))
    cache.add("m", "h", completion)
    cache.write(cache.take_pending())
    again = AnswerCache(database, parameters_hash({}))
    again.read(["m"], ["h"])
    stored = again.outcomes["m", "h"].answer
    assert stored is not None
    assert stored.tool_calls == (CALL,)
    values = {"sample": sample_values(stored.text, output_tools=list(stored.tool_calls))}
    assert render("{{sample.output_tools[0].function.name}}", values) == "weather"
    assert parameters_hash({}, "run") != parameters_hash({})
    given = given_completion({"choices": [{"message": {"content": "hi"}}], "output_tools": [CALL]})
    assert (given.text, given.tool_calls) == ("hi", (CALL,))


def test_files_of_rows_are_read_line_by_line(settings: Settings, database: Database) -> None:
    files = Files(settings, database)

    def read(*lines: str) -> list[Any]:
        stored = files.store("rows.jsonl", "\n".join(lines).encode(), "evals")
        return list(read_rows(files, {"type": "file_id", "id": stored.id}))

    row = {"item": {"a": 1}, "sample": {"output_text": "x"}}
    assert read(json.dumps(row), "", '{"item": {}}') == [row, {"item": {}}]
    for line in ("{", "[]", '{"question": "no item"}', '{"item": "text"}'):
        with pytest.raises(Invalid, match="Line 2 of file-"):
            read('{"item": {}}', line)
    with pytest.raises(Invalid, match="has no rows"):
        read("", " ")
    with pytest.raises(NotFound):
        list(read_rows(files, {"type": "file_id", "id": "file-none"}))
