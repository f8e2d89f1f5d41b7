"""tests/train/data/faults: one file for each fault, with the fault at known lines and no other."""

from pathlib import Path
from typing import Any

import pytest

from train.data.checks import check

FAULTS = Path(__file__).parent / "faults"


def errors(code: str, *lines: int) -> list[tuple[int, str, str]]:
    return [(line, "error", code) for line in lines]


def warnings(code: str, *lines: int) -> list[tuple[int, str, str]]:
    return [(line, "warning", code) for line in lines]


EXPECTED = {
    "invalid-json": errors("invalid-json", 2),
    "invalid-utf8": errors("invalid-utf8", 3),
    "invalid-csv": errors("invalid-csv", 3),
    "wrong-type": errors("wrong-type", 2, 3, 4, 5, 6),
    "unknown-role": errors("unknown-role", 2),
    "not-text": errors("not-text", 2),
    "half-character": errors("half-character", 2),
    "bad-weight": errors("bad-weight", 2, 3),
    "unknown-key": warnings("unknown-key", 0),
    "unread-field": warnings("unread-field", 0),
    "one-label": warnings("one-label", 0),
    "mixed-formats": warnings("mixed-formats", 2, 3),
    "mixed-kinds": [(2, "error", "mixed-kinds"), (2, "warning", "mixed-formats")],
    "same-answers": errors("same-answers", 2),
    "bad-tools": errors("bad-tools", 1),
    "bad-tool-call": errors("bad-tool-call", 1, 2, 3),
    "tool-order": errors("tool-order", 2, 3),
    "unknown-tool": warnings("unknown-tool", 2),
    "role-order": warnings("role-order", 2, 3),
    "system-not-first": errors("system-not-first", 2),
    "no-user": warnings("no-user", 2),
    "no-last-answer": warnings("no-last-answer", 2),
    "no-assistant": errors("no-assistant", 2, 3),
    "nothing-learnt": errors("nothing-learnt", 2),
    "empty": errors("empty", 2, 3),
    "truncated": warnings("truncated", 2, 3, 4, 5),
    "html": warnings("html", 2, 3),
    "broken-encoding": warnings("broken-encoding", 2, 3, 5),
    "duplicate": warnings("duplicate", 3),
    "near-duplicate": warnings("near-duplicate", 3),
    "inconsistent-system": warnings("inconsistent-system", 6),
    "inconsistent-format": warnings("inconsistent-format", 6),
    "over-token-limit": errors("over-token-limit", 2),
    "personal-email": warnings("personal-email", 2),
    "personal-phone": warnings("personal-phone", 2, 3),
    "personal-card": warnings("personal-card", 2),
    "secret-key": warnings("secret-key", 2),
    "too-few": errors("too-few", 0),
}


@pytest.mark.parametrize("fault", EXPECTED)
def test_each_fault_is_found_at_its_line_and_nothing_else(fault: str) -> None:
    path = next(FAULTS.glob(f"{fault}.*"))
    limit: dict[str, Any] = {}
    if fault == "over-token-limit":
        limit = {
            "count_tokens": lambda conversation: sum(len(message.content.split()) for message in conversation.messages),
            "max_tokens": 40,
        }
    report = check(path, **limit)
    problems = [problem for problem in report.problems if problem.code != "too-few" or fault == "too-few"]
    assert sorted((problem.line, problem.severity, problem.code) for problem in problems) == sorted(EXPECTED[fault])
    assert all(problem.message and problem.mend for problem in report.problems)
    left_out = {line for line, severity, _ in EXPECTED[fault] if severity == "error" and line}
    kept = {item.line for item in (*report.examples, *report.preferences)}
    assert not kept & left_out
    assert len(kept) == report.lines - len(left_out)  # a broken line never affects another
    assert report.left_out == len(left_out)


def test_every_fault_file_is_expected() -> None:
    named = {path.name.rpartition(".")[0] for path in FAULTS.iterdir()}
    pairs = {f"{fault}.{part}" for fault in ("validation-share", "leakage") for part in ("train", "validation")}
    assert named == EXPECTED.keys() | pairs


def test_every_code_is_explained_to_the_model_owner() -> None:
    guide = (FAULTS.parents[3] / "docs" / "model-owner.md").read_text("utf-8")
    codes = {code for expected in EXPECTED.values() for *_, code in expected}
    codes |= {"reasoning-dropped", "empty-thought"}  # found by the base's chat template
    codes |= {"guessed-roles", "guessed-conversations", "text-tool-calls"}  # how texts were read
    assert [code for code in codes | {"leakage", "near-leakage", "validation-share"} if f"`{code}`" not in guide] == []


def test_a_small_validation_part_is_reported_once() -> None:
    report = check(FAULTS / "validation-share.train.jsonl", validation=FAULTS / "validation-share.validation.jsonl")
    assert [(problem.line, problem.severity, problem.code) for problem in report.problems] == [
        (0, "warning", "validation-share")
    ]
    assert report.passes()
    assert not report.passes(strict=True)


def test_what_is_in_both_files_is_reported_and_taken_out_of_the_validation() -> None:
    report = check(FAULTS / "leakage.train.jsonl", validation=FAULTS / "leakage.validation.jsonl")
    assert not report.problems
    assert report.validation is not None
    problems = [(problem.line, problem.severity, problem.code) for problem in report.validation.problems]
    assert problems == [(7, "error", "leakage"), (8, "warning", "near-leakage")]
    assert "line 3 " in report.validation.problems[0].message
    assert 7 not in {example.line for example in report.validation.examples}
    assert report.to_json()["validation"]["problems"][0]["code"] == "leakage"
