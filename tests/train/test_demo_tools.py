"""The text of support-tools: right by construction, with names and functions held out. Nothing is trained here."""

import json
from itertools import islice
from typing import Any

import pytest

from models.demo import FOLDER, update_template
from models.registry import parse_spec
from train.data.checks import check
from train.demo.catalogue import Catalogue, load_catalogue
from train.demo.functions import functions, load_tools
from train.demo.tool_prompts import CALLS, JSON, Reply, ToolPrompt, mark, parse_reply, summarise, tool_prompts
from train.demo.tool_talks import rows


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture(scope="module")
def written(catalogue: Catalogue) -> list[dict[str, Any]]:
    return list(rows(1, catalogue, 400))


def calls_of(row: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    calls = [call["function"] for turn in row["messages"] for call in turn.get("tool_calls", ())]
    return [(call["name"], json.loads(call["arguments"])) for call in calls]


def test_one_seed_gives_one_text(catalogue: Catalogue, written: list[dict[str, Any]]) -> None:
    assert list(islice(rows(1, catalogue, 400), 60)) == written[:60]
    assert list(rows(2, catalogue, 60)) != written[:60]


def test_each_call_is_of_an_offered_function_with_what_it_requires(written: list[dict[str, Any]]) -> None:
    called = [(row, *call) for row in written for call in calls_of(row)]
    assert len(called) > 200
    for row, name, arguments in called:
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
        assert set(offered[name]["required"]) <= set(arguments) <= set(offered[name]["properties"])
        assert len(offered) == len(row["tools"])


def test_arguments_are_copied_from_the_conversation(written: list[dict[str, Any]]) -> None:
    for row in written:
        said = " ".join(turn["content"] or "" for turn in row["messages"] if turn["role"] != "system").lower()
        for _, arguments in calls_of(row):
            assert all(str(value).lower() in said for value in arguments.values()), (said, arguments)


def test_training_rows_are_good_training_data(written: list[dict[str, Any]]) -> None:
    checked = check(written[:100])
    assert len(checked.examples) == 100
    assert not [problem for problem in checked.problems if problem.severity == "error"]


def test_what_is_held_out_is_in_no_training_row(written: list[dict[str, Any]]) -> None:
    tools = [tool["function"] for row in written for tool in row.get("tools", ())]
    names = {tool["name"] for tool in tools}
    names |= {name for tool in tools for name in tool["parameters"]["properties"]}
    about = {tool.get("description") for tool in tools}
    words = load_tools()
    for function in functions():
        held = (
            function.names["held_out"]
            if function.held_out
            else set(function.names["held_out"]) - set(function.names["train"])
        )
        assert not names & set(held), function.id
        assert not about & set(function.about["held_out"]) or function.about["held_out"] == function.about["train"]
    for kind, argument in words["arguments"].items():
        assert not names & set(argument["held_out"]["names"]), kind


def test_held_out_requests_have_each_kind_and_no_trained_number(catalogue: Catalogue) -> None:
    made = tool_prompts(1, catalogue, frozenset())
    assert {prompt.kind for prompt in made} >= {*CALLS, *JSON, "none", "missing", "result"}
    assert len({prompt.id for prompt in made}) == len(made)
    assert tool_prompts(1, catalogue, frozenset()) == made
    for prompt in made:
        assert (prompt.call is not None) == (prompt.kind in CALLS)
        assert (prompt.fields is not None) == (prompt.kind in JSON)


def test_answers_are_marked() -> None:
    reply = parse_reply('<tool_call>{"name": "find", "arguments": {"n": "7"}}</tool_call>')
    assert reply == Reply("", [("find", {"n": "7"})])
    asked = ToolPrompt("a", "known", (), (), call={"name": "find", "arguments": {"n": "7"}})
    assert mark(asked, reply).right
    other = mark(asked, Reply("", [("find", {"n": "8"})]))
    assert (other.called, other.function, other.right) == (True, True, False)
    assert not mark(asked, parse_reply("<tool_call>{nothing")).function
    assert not mark(asked, Reply("I cannot.")).called
    plain = ToolPrompt("b", "none", (), ())
    assert mark(plain, Reply("I cannot.")).right
    assert not mark(plain, reply).right
    shaped = ToolPrompt("c", "keyed", (), (), fields={"n": "7", "topic": "x"}, copied=("n",))
    assert mark(shaped, Reply('{"n":"7", "topic":"y"}')).right
    assert not mark(shaped, Reply('{"topic":"y", "n":"7"}')).right
    assert not mark(shaped, Reply("n is 7")).function
    assert summarise([asked, plain], [reply, reply]) == {
        "known": {"questions": 1, "called": 1.0, "function": 1.0, "right": 1.0},
        "none": {"questions": 1, "called": 1.0, "function": 0.0, "right": 0.0},
    }


def test_an_installed_base_gets_the_current_template(tmp_path: Any) -> None:
    current = (FOLDER / "base" / "chat_template.jinja").read_bytes()
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    own = parse_spec(id="demo-base", kind="base", path=str(tmp_path))
    assert not update_template(own)  # not the demo's
    toy = parse_spec(id="demo-base", kind="base", path=str(tmp_path), toy=True)
    assert update_template(toy)
    assert (tmp_path / "chat_template.jinja").read_bytes() == current
    assert not update_template(toy)
