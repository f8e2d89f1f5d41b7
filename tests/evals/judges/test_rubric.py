"""Rubrics as Markdown: parsed, refused and stored; the rubric in the training data is the shipped one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.judges.rubric import (
    find_rubric,
    parse_rubric,
    read_references,
    shipped_rubrics,
    store_rubric,
    used_rubrics,
    write_rubric,
)
from evals.votes.prompts import add_prompts, prompts
from models.chat.judge_prompt import DEFAULT_RUBRIC, Criterion, Rubric
from models.database import Database
from models.errors import Invalid, NotFound

GOOD = """---
name: mine
version: 2
criteria:
  tone: {weight: 2, anchors: {1: rude, 5: kind}}
  truth: {}
---
Judge our answers.
"""


def test_the_shipped_support_rubric_is_the_training_rubric() -> None:
    assert find_rubric("support") == DEFAULT_RUBRIC
    assert find_rubric("support").hash == "cc1fae1c898f"
    assert find_rubric("support").instructions == DEFAULT_RUBRIC.text


@pytest.mark.long
def test_shipped_rubrics_are_found_by_name_and_by_hash() -> None:
    for rubric in shipped_rubrics():
        assert find_rubric(rubric.name) == find_rubric(rubric.hash) == rubric
        assert "not for you" in rubric.text


def test_weights_and_anchors_are_parsed_and_in_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "mine.md"
    path.write_text(GOOD)
    rubric = find_rubric(str(path))
    assert (rubric.name, rubric.version, rubric.criteria) == ("mine", "2", ("tone", "truth"))
    assert rubric.details == (Criterion("tone", 2.0, ((1, "rude"), (5, "kind"))), Criterion("truth"))
    assert "- tone (67% of the whole)\n  - 1: rude\n  - 5: kind\n- truth (33%" in rubric.instructions
    assert rubric.whole({"tone": 5, "truth": 2}) == 4.0
    assert parse_rubric(GOOD.replace("\n", "\r\n"), "x") == rubric


def test_the_hash_covers_everything_in_the_prompt() -> None:
    changes = [("kind", "warm"), ("weight: 2", "weight: 3"), ("our answers", "answers"), ("truth", "facts")]
    assert len({parse_rubric(GOOD.replace(*change), "x").hash for change in [("", ""), *changes]}) == 5
    assert parse_rubric(GOOD.replace("version: 2", "version: 3"), "x").hash == parse_rubric(GOOD, "x").hash


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Judge.", "front matter"),
        (GOOD.replace("name: mine", "name: Mine!"), "`name`"),
        (GOOD.replace("version: 2", "weights: 2"), "'weights'"),
        (GOOD.replace("Judge our answers.\n", ""), "text for the judge"),
        (GOOD.replace("{}", "{weight: 0}"), "weight of truth"),
        (GOOD.replace("5: kind", "6: kind"), "anchors of tone"),
        (GOOD.replace("{}", "{max: 3}"), "criterion truth"),
        (GOOD.replace("name: mine", "name: [mine"), "not YAML"),
        ("---\nname: a\ncriteria: [tone, tone]\n---\nText", "`criteria`"),
        ("---\nname: a\n---\nText", "`criteria`"),
    ],
)
def test_an_invalid_rubric_is_a_one_line_error(content: str, message: str) -> None:
    with pytest.raises(Invalid, match=r"mine\.md") as caught:
        parse_rubric(content, "mine.md")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_rubric_error_lists_the_available_ones(tmp_path: Path, database: Database) -> None:
    with pytest.raises(NotFound, match="support"):
        find_rubric("nobody", database)
    with pytest.raises(NotFound, match="no rubric file"):
        find_rubric(str(tmp_path / "none.md"))


def test_used_rubrics_are_stored_and_an_unversioned_change_warns(any_database: Database) -> None:
    rubric = parse_rubric(GOOD, "x")
    assert store_rubric(any_database, rubric) is None
    assert store_rubric(any_database, rubric) is None
    changed = parse_rubric(GOOD.replace("kind", "warm"), "x")
    warning = store_rubric(any_database, changed)
    assert warning is not None
    assert "Raise its version" in warning
    assert find_rubric(rubric.hash, any_database) == rubric
    assert [used.hash for used in used_rubrics(any_database)] == [rubric.hash, changed.hash]


def test_references_are_matched_by_their_prompt(tmp_path: Path, database: Database) -> None:
    add_prompts(database, [{"prompt": "Where?"}, {"prompt": "When?"}], "test")
    path = tmp_path / "right.jsonl"
    path.write_text('{"prompt": "When?", "reference": "On Monday."}\n{"prompt": "Who?", "reference": "Ann."}\n')
    assert read_references(database, path) == {prompts(database)[1].id: "On Monday."}
    path.write_text('{"prompt": "Who?", "reference": "Ann."}\n')
    with pytest.raises(Invalid, match="no row matches"):
        read_references(database, path)
    path.write_text('{"prompt": "Who?"}\n')
    with pytest.raises(Invalid, match="line 1"):
        read_references(database, path)


words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
anchors = st.dictionaries(st.integers(1, 5), words).map(lambda levels: tuple(sorted(levels.items())))
criteria = st.lists(
    st.builds(Criterion, name=words, weight=st.floats(0.1, 100), anchors=anchors),
    min_size=1, max_size=4, unique_by=lambda criterion: criterion.name,
)  # fmt: skip


@pytest.mark.long
@given(criteria, words)
def test_written_rubrics_parse_back_to_the_same(details: list[Criterion], text: str) -> None:
    plain = all(criterion == Criterion(criterion.name) for criterion in details)
    rubric = Rubric("mine", text, tuple(criterion.name for criterion in details), () if plain else tuple(details), "3")
    assert parse_rubric(write_rubric(rubric), "x") == rubric
