"""The text of support-tools: seeded, with calls that copy the conversation; held-out requests and their marking."""

import json
from itertools import islice
from typing import Any

import pytest

from train.data.checks import check
from train.demo.catalogue import Catalogue, load_catalogue
from train.demo.functions import functions, load_tools
from train.demo.tool_dialogues import tool_rows
from train.demo.tool_evaluation import COUNTS, Reply, ToolPrompt, mark, parse_reply, summarise, tool_prompts


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture(scope="module")
def written(catalogue: Catalogue) -> list[dict[str, Any]]:
    return list(tool_rows(1, catalogue, 300))


def calls_of(row: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    calls = [call["function"] for turn in row["messages"] for call in turn.get("tool_calls", ())]
    return [(call["name"], json.loads(call["arguments"])) for call in calls]


def test_one_seed_gives_one_text(catalogue: Catalogue, written: list[dict[str, Any]]) -> None:
    assert list(islice(tool_rows(1, catalogue, 300), 40)) == written[:40]
    assert list(tool_rows(2, catalogue, 40)) != written[:40]


def test_a_call_is_of_an_offered_function_with_what_the_conversation_has(written: list[dict[str, Any]]) -> None:
    called = [(row, *call) for row in written for call in calls_of(row)]
    assert len(called) > 120
    for row, name, arguments in called:
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
        assert list(arguments) == offered[name]["required"]
        conversation = " ".join(turn["content"] for turn in row["messages"]).lower()
        copied = [value for key, value in arguments.items() if key in ("number", "city") and value is not None]
        assert all(value.lower() in conversation for value in copied), (conversation, arguments)


def test_every_function_is_called_and_sometimes_absent(written: list[dict[str, Any]]) -> None:
    names = {function.name for function in functions()}
    assert names <= {name for row in written for name, _ in calls_of(row)}
    offered = [{tool["function"]["name"] for tool in row.get("tools", ())} for row in written]
    for name in names:
        assert sum(name not in tools for tools in offered if tools & names) > 20, name


def test_training_rows_are_good_training_data(written: list[dict[str, Any]]) -> None:
    checked = check(written[:80])
    assert len(checked.examples) == 80
    assert not [problem for problem in checked.problems if problem.severity == "error"]


def test_held_out_requests_have_each_kind_and_no_trained_number(catalogue: Catalogue) -> None:
    made = tool_prompts(1, catalogue, frozenset())
    assert {kind: sum(prompt.kind == kind for prompt in made) for kind in COUNTS} == COUNTS
    assert len({prompt.id for prompt in made}) == len(made)
    number = next(
        prompt.call["arguments"]["number"] for prompt in made if prompt.call and "number" in prompt.call["arguments"]
    )
    again = tool_prompts(1, catalogue, frozenset({number}))
    assert number not in json.dumps([prompt.as_dict() for prompt in again])
    held = load_tools()["ticket"]["held_out"]
    assert not set(held["ask"]) & set(load_tools()["ticket"]["ask"])


def test_answers_are_marked() -> None:
    reply = parse_reply('{"name": "trackOrder", "parameters": {"number": "7"}}')
    assert reply == Reply("", [("trackOrder", {"number": "7"})])
    call = prompt("call", call={"name": "trackOrder", "arguments": {"number": "7"}})
    assert mark(call, reply).right
    other = mark(call, Reply("", [("trackOrder", {"number": "8"})]))
    assert (other.form, other.name, other.right) == (True, True, False)
    assert not mark(call, parse_reply('{"name": "trackOrder", "param')).form
    plain = prompt("none")
    assert mark(plain, Reply("I cannot.")).right
    assert not mark(plain, reply).form
    assert not mark(plain, Reply('{"topic": "other"}')).form
    result = prompt("result", holds=("Friday",))
    assert (mark(result, Reply("It arrives on Friday.")).right, mark(result, Reply("Soon.")).right) == (True, False)
    ticket = prompt("ticket", fields={"topic": "refund", "number": None})
    assert mark(ticket, Reply('{"topic":"refund","number":null}')).right
    wrong = mark(ticket, Reply('{"topic": "other", "number": null}'))
    assert (wrong.form, wrong.right) == (True, False)
    assert summarise([call, plain], [reply, reply]) == {
        "call": {"requests": 1, "form": 1.0, "name": 1.0, "right": 1.0},
        "none": {"requests": 1, "form": 0.0, "name": 0.0, "right": 0.0},
    }


def prompt(kind: str, **expected: Any) -> ToolPrompt:
    """A request of a kind without messages."""
    return ToolPrompt("x", kind, (), (), **({"call": None, "fields": None, "holds": ()} | expected))
