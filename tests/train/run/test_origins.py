"""train/run/origins.py: the origin of a run, and what counts as the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import Invalid
from tests.train.conftest import style_rows
from train.data.checks import check
from train.run.origins import changes, digest, environment, fingerprint, require_same


def written(path: Path, rows: list[dict[str, object]], between: str = "\n") -> Path:
    path.write_text(between.join(json.dumps(row) for row in rows), "utf-8")
    return path


def taken(path: Path) -> dict[str, object]:
    examples = check(path).examples
    return fingerprint(path, examples[2:], examples[:2], ())


def test_the_examples_and_their_order_are_the_data(tmp_path: Path) -> None:
    rows = style_rows(12)
    plain = taken(written(tmp_path / "a.jsonl", rows))
    again = taken(written(tmp_path / "b.jsonl", rows))
    turned = taken(written(tmp_path / "d.jsonl", rows[::-1]))
    assert {name: value for name, value in plain.items() if name != "file"} == {
        name: value for name, value in again.items() if name != "file"
    }
    assert turned["examples_sha256"] != plain["examples_sha256"]
    require_same(plain, again, "data")  # the file may have been moved
    with pytest.raises(Invalid, match="the data's file changed since") as caught:
        require_same(plain, turned, "data")
    assert "\n" not in str(caught.value)


def test_a_digest_reads_what_examples_are_made_of() -> None:
    examples = check(style_rows(3)).examples
    assert digest(examples) == digest(list(examples))
    assert digest(examples) != digest(examples[:2])
    assert digest([[1, 2], [3]]) != digest([[1, 2, 3]])


def test_a_run_of_an_earlier_version_can_be_resumed() -> None:
    """Fields that examples got later do not change the digest of data that has none of them."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    (example,) = check([{"messages": turns}], provider="local").examples
    stored = {
        "line": 1, "unweighted": [], "metadata": {},
        "conversation": {"tools": [], "messages": [turns[0], {
            "role": "assistant", "content": "", "calls": [{"id": "c", "name": "f", "arguments": "{}"}]}]},
    }  # fmt: skip
    assert digest([example]) == digest([stored])
    assert digest([replace(example, label=False)]) != digest([stored])


def test_what_differs_in_a_configuration_is_named() -> None:
    before = {"hyperparameters": {"epochs": 3, "rank": 8}, "name": "a", "masks": ["x"], "started": "then"}
    now = {"hyperparameters": {"epochs": 5, "rank": 8}, "name": "a", "masks": ("x",), "started": "now"}
    with pytest.raises(Invalid, match="epochs was 3 and is 5 now"):
        require_same(before, now, "configuration")
    require_same(before, now | {"hyperparameters": before["hyperparameters"]}, "configuration")


def test_another_environment_is_reported_and_not_refused() -> None:
    here = environment("cpu", threads=2, seed=0)
    assert here["packages"]["torch"]
    assert here["python"]
    assert changes(here, json.loads(json.dumps(here))) == ()
    there = here | {"threads": 4, "packages": here["packages"] | {"torch": "9"}}
    text = " ".join(changes(here, there))
    assert "threads was 2 and is 4 now" in text
    assert "torch was" in text
