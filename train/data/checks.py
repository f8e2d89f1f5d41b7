"""Whether conversations can be learnt from: each problem with its line, how bad it is, and what mends it.

Errors leave an example out, warnings keep it; both are reported. This file puts the checks together and knows numbers
(too few, too long, too little held out, leakage); `turns`, `texts`, `personal`, `consistency` and `duplicates` know the
rest. docs/model-owner.md lists every code.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from train.data.consistency import check_consistency
from train.data.conversations import Conversation, Example, Preference, Problem
from train.data.duplicates import likeness
from train.data.personal_data import check_personal
from train.data.readers import Columns, Reading, from_rows, read
from train.data.reports import CheckedData, UnusableData
from train.data.splits import question_of, words_of
from train.data.text_checks import check_texts
from train.data.turn_checks import check_turns, empty

__all__ = ["CheckedData", "Data", "Provider", "UnusableData", "check", "require_usable"]

FEWEST = 10  # OpenAI's minimum
FEW = 50  # below this a tuned model mostly learns the examples by heart
_HELD_OUT = (0.10, 0.20)  # the share of validation data that measures well and leaves enough to learn

Data = str | Path | Iterable[Example | Conversation | Preference | Mapping[str, Any]]
Provider = Literal["openai", "together", "local"]


def check(
    data: Data,
    columns: Columns | None = None,
    *,
    format: str = "auto",  # noqa: A002 -- as the flag
    provider: Provider = "openai",
    validation: Data | None = None,
    per_turn: bool = False,
    count_tokens: Callable[[Conversation], int] | None = None,
    max_tokens: int | None = None,
) -> CheckedData:
    """Reads and checks training data.

    Args:
        data: a file (.jsonl, .json, .csv, .tsv, .parquet), a folder or a hub id of a data set; or examples,
            conversations or rows of any known format in memory.
        columns: names the columns of a table.
        format: a name of `formats.names()`; "auto" sees it in the rows.
        provider: who will train. Fewer than 10 examples are an error for OpenAI, which refuses them, and a warning
            elsewhere; none at all are an error for everybody.
        validation: validation data, checked in the same way, its share and what it has in common with `data` too.
        per_turn: give one example for each learnt answer, with the whole context before it.
        count_tokens, max_tokens: how a conversation is counted, and how many tokens it may have.

    Returns:
        The good examples (or preference pairs), and every problem in order of lines. Nothing is raised for bad
        content.

    Raises:
        NotFound, Invalid: the file is missing, of an unknown kind, or lacks the named columns. Unavailable: the hub
        cannot be reached.
    """
    found = _checked(_items(data, columns, format), count_tokens, max_tokens)
    problems = [*found.problems, *_number(len(found.examples) + len(found.preferences), provider)]
    found = replace(found, problems=_in_order(problems))
    if validation is not None:
        found = with_validation(found, _checked(_items(validation, columns, format), count_tokens, max_tokens))
    if per_turn:
        return replace(found, examples=tuple(turn for example in found.examples for turn in example.per_turn()))
    return found


def with_validation(checked: CheckedData, held: CheckedData) -> CheckedData:
    """The report on training data with the one on its validation data, which loses what is also learnt."""
    problems = _in_order([*checked.problems, *_share(checked, held)])
    return replace(checked, problems=problems, validation=_without_leaks(checked, held))


def hold_to_limit(checked: CheckedData, tokens: Mapping[int, int], limit: int, estimate: bool = False) -> CheckedData:
    """The same report with what is over the limit left out and told.

    Args:
        checked: what `check` returned.
        tokens: by line, how many tokens the example has (`counting.count(…).lengths` says).
        limit: how many it may have.
        estimate: the numbers are estimates; then what is over the limit is only warned of.
    """
    found = [problem for line, number in tokens.items() for problem in _check_length(line, number, limit, estimate)]
    out = {problem.line for problem in found if problem.severity == "error"}
    return replace(
        checked,
        examples=tuple(example for example in checked.examples if example.line not in out),
        preferences=tuple(pair for pair in checked.preferences if pair.line not in out),
        problems=_in_order([*checked.problems, *found]),
    )


def require_usable(checked: CheckedData) -> CheckedData:
    """The same data, where it can be trained on.

    Raises:
        UnusableData: it cannot; one line, with all problems on the exception.
    """
    if checked.usable:
        return checked
    reason = next(problem for problem in checked.errors if problem.line == 0)
    raise UnusableData(
        f"The data cannot be trained on: {reason.message}; {checked.left_out} lines have errors. {reason.mend}.",
        checked.problems,
    )


def _items(data: Data, columns: Columns | None, format_: str) -> Reading:
    if isinstance(data, str | Path):
        return read(data, columns, format_)
    reading = Reading(iter(()), "memory")
    reading.items = _from_memory(data, reading)
    return reading


def _from_memory(
    data: Iterable[Example | Conversation | Preference | Mapping[str, Any]], reading: Reading
) -> Iterator[Example | Preference | Problem]:
    for line, item in enumerate(data, 1):
        reading.lines = line
        if isinstance(item, Example | Preference):
            yield item
        elif isinstance(item, Conversation):
            yield Example(line, item)
        else:
            for parsed in from_rows([item]):
                yield replace(parsed, line=line)


def _checked(reading: Reading, count_tokens: Callable[[Conversation], int] | None, limit: int | None) -> CheckedData:
    """The examples of one file without an error of their own, and all problems but those of number."""
    examples: list[Example] = []
    pairs: list[Preference] = []
    problems: list[Problem] = []
    for item in reading:
        if isinstance(item, Problem):
            problems.append(item)
            continue
        if (isinstance(item, Preference) and examples) or (isinstance(item, Example) and pairs):
            wrong = "preference pairs and conversations in one set"
            problems.append(Problem(item.line, "error", wrong, "keep them in files of their own", "mixed-kinds"))
            continue
        about = list(_check_pair(item) if isinstance(item, Preference) else _check_example(item))
        if count_tokens and limit and not any(problem.severity == "error" for problem in about):
            about += _check_length(item.line, count_tokens(_as_example(item).conversation), limit)
        problems += about
        if not any(problem.severity == "error" for problem in about):
            pairs.append(item) if isinstance(item, Preference) else examples.append(item)
    together = [*examples, *(_as_example(pair) for pair in pairs)]
    problems += check_consistency(together)
    problems += _check_copies(together)
    return CheckedData(
        tuple(examples), _in_order(problems), tuple(pairs), reading.name, reading.format, reading.lines
    )  # fmt: skip


def _check_example(example: Example) -> Iterator[Problem]:
    yield from check_turns(example)
    yield from check_texts(example)
    yield from check_personal(example)


def _check_pair(pair: Preference) -> Iterator[Problem]:
    mend = 'end the prompt with the user; an answer is [{"role": "assistant", "content": …}]'
    for name, answer in (("preferred", pair.chosen), ("rejected", pair.rejected)):
        if not answer or answer[-1].role != "assistant":
            yield Problem(pair.line, "error", f"the {name} answer is not the assistant's", mend, "no-assistant")
            return
    if not pair.prompt or pair.prompt[-1].role == "assistant":
        yield Problem(pair.line, "error", "the prompt does not end with the user", mend, "role-order")
    if pair.chosen == pair.rejected:
        wrong = "both answers are the same: there is nothing to prefer"
        yield Problem(pair.line, "error", wrong, "remove the line", "same-answers")
    yield from empty(pair.line, pair.rejected)
    yield from _check_example(_as_example(pair))


def _as_example(item: Example | Preference) -> Example:
    return item.preferred if isinstance(item, Preference) else item


def _check_length(line: int, tokens: int, limit: int, estimate: bool = False) -> Iterator[Problem]:
    if tokens > limit:
        wrong = f"{'about ' if estimate else ''}{tokens:,} tokens, over the limit of {limit:,}"
        severity = "warning" if estimate else "error"
        yield Problem(line, severity, wrong, "shorten or split the conversation", "over-token-limit")


def _check_copies(examples: Sequence[Example]) -> Iterator[Problem]:
    keep = "keep one, unless it is meant to weigh more"
    for twin in likeness([words_of(example) for example in examples]).twins:
        line, first = examples[twin.place].line, examples[twin.first].line
        if line == first:
            continue  # two answers of one line
        if twin.exact:
            yield Problem(line, "warning", f"the same as line {first}", keep, "duplicate")
        else:
            wrong = f"nearly the same as line {first} ({twin.overlap:.0%} alike)"
            yield Problem(line, "warning", wrong, keep, "near-duplicate")


def _share(found: CheckedData, held: CheckedData) -> Iterator[Problem]:
    learnt, measured = (len(part.examples) + len(part.preferences) for part in (found, held))
    share = measured / max(learnt + measured, 1)
    if not _HELD_OUT[0] <= share <= _HELD_OUT[1]:
        wrong = f"{share:.1%} of the examples are for validation"
        mend = "hold out 10 to 20 %: less measures badly, more is missing in the training"
        yield Problem(0, "warning", wrong, mend, "validation-share")


def _without_leaks(found: CheckedData, held: CheckedData) -> CheckedData:
    """The validation part without what is in the training part word for word; what is nearly in it is told.

    The same question is a leak also under another answer: `split` never puts it on both sides either.
    """
    learnt, measured = ([*part.examples, *map(_as_example, part.preferences)] for part in (found, held))
    asked = {question_of(example): example.line for example in learnt}
    alike = likeness([words_of(example) for example in (*learnt, *measured)]).groups
    problems: list[Problem] = []
    for example, group in zip(measured, alike[len(learnt) :], strict=True):
        if (line := asked.get(question_of(example))) is not None:
            mend = "keep the question on one side; `parley data split` does"
            wrong = f"the same question as line {line} of the training data"
            problems.append(Problem(example.line, "error", wrong, mend, "leakage"))
        elif group < len(learnt):
            wrong = f"nearly the same as line {learnt[group].line} of the training data"
            mend = "keep what is alike on one side; `parley data split` does"
            problems.append(Problem(example.line, "warning", wrong, mend, "near-leakage"))
    out = {problem.line for problem in problems if problem.severity == "error"}
    return replace(
        held,
        examples=tuple(example for example in held.examples if example.line not in out),
        preferences=tuple(pair for pair in held.preferences if pair.line not in out),
        problems=_in_order([*held.problems, *problems]),
    )


def _number(examples: int, provider: Provider) -> Iterator[Problem]:
    if examples >= FEW:
        return
    if examples == 0:
        yield Problem(0, "error", "no usable example", "Mend the lines that have errors", "too-few")
    elif examples < FEWEST and provider == "openai":
        wrong = f"{examples} usable examples, and {FEWEST} are the fewest that OpenAI trains on"
        yield Problem(0, "error", wrong, f"Add examples: from {FEW} on a style shows", "too-few")
    else:
        yield Problem(0, "warning", f"only {examples} examples", f"{FEW} or more teach a style better", "too-few")


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.line))
