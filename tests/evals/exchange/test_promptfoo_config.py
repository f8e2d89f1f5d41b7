"""promptfoo's configurations: what becomes of their parts, what is listed as lost, and hostile files."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from evals.api_tables import EvalRow
from evals.exchange.assertions import assertion_of
from evals.exchange.promptfoo_tests import from_expected
from models.database import Database
from models.errors import Invalid
from models.settings.settings import Settings
from tests.evals.exchange.configs import import_config, write_config

OUTPUT = "{{sample.output_text}}"
BASE: dict[str, Any] = {
    "description": "Capitals",
    "prompts": ["Capital of {{country}}?"],
    "providers": ["openai:gpt-4o"],
}
NORWAY = {"country": "Norway", "capital": "Oslo"}


def of(*assertions: Any, **more: Any) -> dict[str, Any]:
    return BASE | {"tests": [{"vars": NORWAY, "assert": list(assertions)}]} | more


def test_tests_graders_prompts_and_models_are_imported(settings: Settings, database: Database, tmp_path: Path) -> None:
    flag = {"type": "image_url", "image_url": {"url": "{{flag}}"}}
    asked = {"role": "user", "content": [{"type": "text", "text": "Capital of {{country}}?"}, flag]}
    chat = [{"role": "system", "content": "Be brief."}, asked]
    config = BASE | {
        "prompts": ["Capital of {{ country }}?", "file://chat.json", {"raw": "{{ talk | dump }}", "label": "talk"}],
        "providers": [
            "openai:gpt-4o",
            {"id": "openai:chat:ft:gpt-4o:acme::x", "config": {"temperature": 0, "max_tokens": 9, "apiKey": "SECRET"}},
        ],
        "defaultTest": {"assert": [{"type": "icontains", "value": "{{capital}}", "metric": "names it"}]},
        "tests": [
            {"vars": NORWAY, "assert": [{"type": "contains-any", "value": ["Oslo", "{{capital}}!"]}]},
            "file://more.csv",
            "file://more.jsonl",
        ],
    }
    folder = write_config(
        tmp_path / "c",
        config,
        chat__json=json.dumps(chat),
        more__csv='country,capital,__expected\nSpain,Madrid,"contains-any:Madrid, MAD"\n',
        more__jsonl='{"vars": {"country": "Italy", "capital": "Rome"}, "assert": [{"type": "regex", "value": "^R"}]}\n',
    )
    (made,), lost = import_config(settings, database, folder)
    assert made.name == "Capitals"
    assert made.criteria[0] == {
        "type": "string_check", "operation": "ilike", "name": "names it", "input": OUTPUT,
        "reference": "{{item.capital}}",
    }  # fmt: skip
    assert [assertion_of(each["source"]) for each in made.criteria[1:]] == [
        {"type": "contains-any", "value": "{{contains_any_value}}", "applies": "contains_any_applies"},
        {"type": "regex", "value": "^R", "applies": "regex_applies"},
    ]
    assert made.items == [
        NORWAY | {"contains_any_value": ["Oslo", "Oslo!"], "contains_any_applies": True, "regex_applies": False},
        {"country": "Spain", "capital": "Madrid", "contains_any_value": ["Madrid", "MAD"],
         "contains_any_applies": True, "regex_applies": False},
        {"country": "Italy", "capital": "Rome", "contains_any_applies": False, "regex_applies": True},
    ]  # fmt: skip
    assert [plan["data_source"]["model"] for plan in made.plans] == ["gpt-4o", "ft:gpt-4o:acme::x"] * 3
    assert made.plans[1]["data_source"]["sampling_params"] == {"temperature": 0, "max_completion_tokens": 9}
    messages = [plan["data_source"]["input_messages"] for plan in made.plans[::2]]
    assert messages[0]["template"] == [{"role": "user", "content": "Capital of {{item.country}}?"}]
    assert messages[1]["template"][1]["content"] == [
        {"type": "input_text", "text": "Capital of {{item.country}}?"},
        {"type": "input_image", "image_url": "{{item.flag}}"},
    ]
    assert messages[2] == {"type": "item_reference", "item_reference": "item.talk"}
    assert lost == ["provider openai:chat:ft:gpt-4o:acme::x: the option apiKey is not supported."]
    assert import_config(settings, database, folder)[0] == [made]
    with database.read() as session:
        stored = session.scalars(select(EvalRow)).all()
        assert len(stored) == 1
        assert "SECRET" not in json.dumps(stored[0].content)


@pytest.mark.parametrize(
    ("assertion", "grader"),
    [
        ({"type": "equals", "value": "Oslo"},
         {"type": "string_check", "operation": "eq", "input": OUTPUT, "reference": "Oslo"}),
        ({"type": "contains", "value": "{{capital}}"},
         {"type": "string_check", "operation": "like", "input": OUTPUT, "reference": "{{item.capital}}"}),
        ({"type": "rouge-n", "value": "{{capital}}", "threshold": 0.6},
         {"type": "text_similarity", "evaluation_metric": "rouge_1", "input": OUTPUT, "reference": "{{item.capital}}",
          "pass_threshold": 0.6}),
        ({"type": "bleu", "value": "Oslo"},
         {"type": "text_similarity", "evaluation_metric": "bleu", "input": OUTPUT, "reference": "Oslo",
          "pass_threshold": 0.5}),
        ({"type": "similar", "value": "Oslo", "threshold": 0.9},
         {"type": "text_similarity", "evaluation_metric": "cosine", "input": OUTPUT, "reference": "Oslo",
          "pass_threshold": 0.9}),
    ],
)  # fmt: skip
def test_an_assertion_becomes_a_grader_of_the_api(
    settings: Settings, database: Database, tmp_path: Path, assertion: Any, grader: Any
) -> None:
    (made,), lost = import_config(settings, database, write_config(tmp_path / "c", of(assertion)))
    assert (made.criteria, lost) == ([grader | {"name": assertion["type"]}], [])


@pytest.mark.parametrize(
    "assertion",
    [
        {"type": "not-contains", "value": "Bergen"}, {"type": "starts-with", "value": "O"},
        {"type": "icontains-all", "value": ["a", "b"]}, {"type": "levenshtein", "value": "Oslo", "threshold": 2},
        {"type": "is-json", "value": {"type": "object"}}, {"type": "not-regex", "value": "x+"},
        {"type": "word-count", "value": {"min": 1, "max": 3}}, {"type": "finish-reason", "value": "stop"},
        {"type": "assert-set", "threshold": 0.5, "assert": [{"type": "contains", "value": "a", "weight": 2},
                                                            {"type": "equals", "value": "b"}]},
    ],
)  # fmt: skip
def test_other_assertions_without_a_model_become_python_graders(
    settings: Settings, database: Database, tmp_path: Path, assertion: Any
) -> None:
    (made,), _ = import_config(settings, database, write_config(tmp_path / "c", of(assertion)))
    assert [assertion_of(each["source"]) for each in made.criteria] == [assertion]


def test_rubrics_become_judges_and_tests_without_them_an_eval_of_their_own(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    config = of(
        {"type": "llm-rubric", "value": "Is polite about {{country}}", "provider": "openai:gpt-4o"},
        {"type": "not-llm-rubric", "value": "Is long"},
        {"type": "llm-rubric", "value": "Is kind", "threshold": 0.8},
        {"type": "factuality", "value": "{{capital}}"},
        {"type": "g-eval", "value": ["clear", "short"]},
        {"type": "python", "value": "len(output) < 9"},
    )
    config["tests"].append({"vars": {"country": "Spain"}})
    made, lost = import_config(settings, database, write_config(tmp_path / "c", config), judge="our-judge")
    assert [(each.name, len(each.criteria), len(each.items)) for each in made] == [
        ("Capitals (1 of 2)", 6, 1),
        ("Capitals (2 of 2)", 0, 1),
    ]
    kinds = [(each["type"], each.get("model"), each.get("passing_labels")) for each in made[0].criteria]
    assert kinds == [
        ("label_model", "gpt-4o", ["pass"]), ("label_model", "our-judge", ["fail"]), ("score_model", "our-judge", None),
        ("label_model", "our-judge", ["subset", "superset", "same", "immaterial"]), ("score_model", "our-judge", None),
        ("python", None, None),
    ]  # fmt: skip
    assert "Is polite about {{item.country}}" in made[0].criteria[0]["input"][1]["content"]
    assert lost == []
    _, lost = import_config(settings, database, write_config(tmp_path / "c", config))
    assert "test 1: assertion factuality: it names no judge: set its provider, or import with --judge MODEL." in lost


def test_what_has_no_counterpart_is_listed(settings: Settings, database: Database, tmp_path: Path) -> None:
    config = of(
        {"type": "javascript", "value": "output.length"}, {"type": "cost", "threshold": 1}, {"type": "latency"},
        {"type": "moderation"}, {"type": "regex", "value": "(?<name>x)"},
        {"type": "contains", "value": "{{a | upper}}"}, {"type": "python", "value": "def ("},
        {"type": "contains", "value": "x", "transform": "output.trim()"},
        {"type": "contains", "value": "ok", "weight": 0}, "text", {"value": 1}, {"type": "contains"},
        prompts=["{% if x %}y{% endif %}", "file://p.py", 7, "fine"],
        providers=["file://p.py", "exec:rm", {"config": {}, "label": "x"}, "openai:gpt-4o"],
        scenarios=[], evaluateOptions={"repeat": 2}, extensions=["file://hook.js"],
    )  # fmt: skip
    config["tests"][0]["options"] = {"prefix": "Q: "}
    config["tests"] += [
        {"vars": {"country": "Spain"}, "assertScoringFunction": "file://s.js"},
        "https://x.test/t.csv",
        5,
    ]
    (made,), lost = import_config(
        settings, database, write_config(tmp_path / "c", config, p__py="import os; os._exit(3)")
    )
    assert [each["name"] for each in made.criteria] == ["contains"]
    assert set(lost) == {
        "test 1: assertion javascript: JavaScript is not run here: write a python assertion.",
        "test 1: assertion cost: a grader does not see what an answer costs.",
        "test 1: assertion latency: a grader does not see how long an answer took.",
        "test 1: assertion moderation: there is no such grader here.",
        "test 1: assertion regex: Python does not read this regular expression (unknown extension ?<n at position 1).",
        "test 1: assertion contains: the template has the expression {{a | upper}}, and only variables are read.",
        "test 1: assertion contains: the field transform is not supported.",
        "test 1: assertion contains: its weight counts in a set with a threshold only.",
        "test 1: assertion contains: it has no value.",
        "test 1: assertion python: its code is not valid Python (invalid syntax (<unknown>, line 2)).",
        "test 1: assertion: it is not an object with a type.",
        "test 1: options.prefix is not supported.",
        "test 2: the field assertScoringFunction of a test is not supported.",
        "test 3: the test is not imported, because it is not an object.",
        "tests: https://x.test/t.csv is an address, and only files are read.",
        "prompt 1: the template has a block ({% … %}) or an expression, and only variables are read.",
        "prompt 2: p.py is code, which is not run here.",
        "prompt 3: it is not a text or a file.",
        "provider file://p.py: only models are called, no programs or servers.",
        "provider exec:rm: only models are called, no programs or servers.",
        "provider without an id.",
        "scenarios is not supported.", "evaluateOptions is not supported.", "extensions is not supported.",
    }  # fmt: skip
    assert len(set(lost)) == len(lost)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BOMB + "prompts: [x]\ntests: []\n", "more than 2,000,000 values when its aliases are expanded"),
        (MERGES + "prompts: [x]\ntests: []\n", "more than 2,000,000 values when its aliases are expanded"),
        ("prompts: &a [*a]\ntests: []\n", "not valid YAML (an alias contains itself)"),
        ("prompts: !!python/object/apply:os.system [ls]\ntests: []\n", "could not determine a constructor for the tag"),
        ("prompts: [x]\ntests: [{vars: {n: .nan}}]\n", "not valid YAML (.nan is not a JSON number)"),
        ("prompts: [x]\nprompts: [y]\ntests: []\n", "a key occurs twice"),
        ("prompts: " + "[" * 5000 + "]" * 5000 + "\ntests: []\n", "not valid YAML"),
        ("prompts: [x\ntests: {", "not valid YAML"),
        ("- 1\n- 2\n", "is not a promptfoo configuration"),
        ("prompts: [x]\ntests: []\n", "has no tests that can be read"),
        ("prompts: !!binary aGk=\ntests: []\n", "the tag tag:yaml.org,2002:binary is not supported"),
        ("\0\0prompts", "not valid YAML"),
        ("", "is empty"),
    ],
)
def test_a_hostile_configuration_is_one_line(
    settings: Settings, database: Database, tmp_path: Path, text: str, problem: str
) -> None:
    made, lost = import_config(settings, database, write_config(tmp_path / "c", text))
    assert made == []
    assert len(lost) == 1
    assert problem in lost[0]
    assert "\n" not in lost[0]


def test_files_outside_of_the_folder_are_not_read(settings: Settings, database: Database, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("SECRET")
    (tmp_path / "secret.yaml").write_text("- vars: {a: SECRET}\n")
    folder = tmp_path / "c"
    names = [
        "file://../secret.yaml",
        str(tmp_path / "secret.yaml"),
        "file://link.yaml",
        "file://../*.yaml",
        "file://gone",
    ]
    config = BASE | {
        "prompts": ["file://../secret.txt", "Say {{a}}"],
        "tests": [*names, {"vars": {"a": "file://../secret.txt", "b": "file://x.js"}}],
    }
    write_config(folder, config)
    (folder / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (made,), lost = import_config(settings, database, folder)
    assert made.items == [{"a": "", "b": ""}]
    assert len(lost) == 7
    assert "SECRET" not in json.dumps([made.plans, lost])
    assert sum("outside of the export's folder" in line for line in lost) >= 5


@pytest.mark.parametrize(
    ("content", "items"),
    [
        (b"\xef\xbb\xbfq,a\r\nx,1\r\n\"y\r\nz\",2\r\n", [{"q": "x", "a": "1"}, {"q": "y\nz", "a": "2"}]),
        ("q,a\nä,1\n".encode("utf-16"), [{"q": "ä", "a": "1"}]),
        (b"q;a\nx;1\n", [{"q": "x", "a": "1"}]),
        (b"q,a\nx\n", [{"q": "x", "a": ""}]),
        (b"q,a\nx,1,2\n", "there are more cells than columns"),
        (b"q,q\nx,1\n", "has two columns with one name"),
        (b"q,a\n\xe4,1\n", "is not utf-8 text"),
        (b'q,a\n"x,1\n', "is not a valid table"),
        (b"", "is empty"),
        (b"PK\x03\x04", "is an Excel file"),
    ],
)  # fmt: skip
def test_tables_in_any_usual_form(
    settings: Settings, database: Database, tmp_path: Path, content: bytes, items: Any
) -> None:
    folder = write_config(tmp_path / "c", BASE | {"tests": "file://t.csv"})
    (folder / "t.csv").write_bytes(content)
    made, lost = import_config(settings, database, folder)
    if isinstance(items, str):
        assert made == []
        assert items in lost[0]
    else:
        assert (made[0].items, lost) == (items, [])


@pytest.mark.parametrize(
    ("text", "assertion"),
    [
        ("Rome, of course", {"type": "equals", "value": "Rome, of course"}),
        ("note: this", {"type": "equals", "value": "note: this"}),
        ("contains:Rome", {"type": "contains", "value": "Rome"}),
        ("not-icontains: Rome", {"type": "not-icontains", "value": "Rome"}),
        ("similar(0.9):Rome", {"type": "similar", "value": "Rome", "threshold": 0.9}),
        ("levenshtein:Rome", {"type": "levenshtein", "value": "Rome", "threshold": 0.75}),
        ("is-json", {"type": "is-json"}),
        ("grade:Is kind", {"type": "llm-rubric", "value": "Is kind"}),
        ("fn:output", {"type": "javascript", "value": "output"}),
        ("file://a.py", {"type": "python", "value": "file://a.py"}),
        ("contains", {"type": "equals", "value": "contains"}),
    ],
)
def test_a_cell_of_expected_is_an_assertion(text: str, assertion: dict[str, Any]) -> None:
    assert from_expected(text) == assertion


def test_lists_of_variables_are_several_tests(settings: Settings, database: Database, tmp_path: Path) -> None:
    tests = [{"vars": {"a": ["x", "y"], "b": [1, 2], "c": "{{a}}-{{b}}-{{other}}"}}]
    (made,), _ = import_config(settings, database, write_config(tmp_path / "c", BASE | {"tests": tests}))
    assert [item["c"] for item in made.items] == [f"{a}-{b}-{{{{other}}}}" for a in "xy" for b in (1, 2)]
    many = [{"vars": {name: list(range(100)) for name in "abc"}}, {"vars": {"a": 1}}]
    (made,), lost = import_config(settings, database, write_config(tmp_path / "d", BASE | {"tests": many}))
    assert made.items == [{"a": 1}]
    assert lost == ["test 1: the test is not imported, because its lists mean more than 100,000 tests."]


def test_a_file_of_something_else_is_refused(settings: Settings, database: Database, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(Invalid, match="has nothing to import"):
        import_config(settings, database, tmp_path)
