"""Whether conversations can be trained on: each problem with its line, its severity and what to do about it.

An example with an error is left out, one with a warning is kept; both are reported. This file runs all checks, and has
those of numbers: too few, too long, too little held out, leakage. docs/model-owner.md lists every code.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from models.likeness import find_duplicates
from train.data.conversations import Conversation, Example, Preference, Problem
from train.data.example_checks import check_consistency, check_empty, check_texts, check_turns
from train.data.formats import with_system
from train.data.label_fields import without_labels
from train.data.openai_rows import Items
from train.data.personal_data import check_personal
from train.data.raw_rows import Raw
from train.data.readers import Columns, Reading, read, row_reader
from train.data.reports import CheckedData, UnusableData
from train.data.splits import compared_text, question_key
from train.data.system_messages import fold_later
from train.data.unread_fields import count_unread

__all__ = ["CheckedData", "Data", "Provider", "UnusableData", "check", "require_usable"]

FEWEST = 10  # OpenAI's minimum
FEW = 50  # below this a tuned model mostly memorises the examples
_HELD_OUT = (0.10, 0.20)  # the share of validation data that measures well and leaves enough to train on

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
        format: a name of `formats.names()`; "auto" detects it.
        provider: where the model will be trained. Fewer than 10 examples are an error for OpenAI, which refuses them,
            and a warning elsewhere. No example at all is always an error.
        validation: validation data, checked in the same way, and compared with `data` for its share and for leaks.
        per_turn: return one example for each learnt answer, with all the messages before it.
        count_tokens, max_tokens: counts the tokens of a conversation, and the most that it may have.

    Returns:
        The good examples (or preference pairs), and every problem in order of lines. Bad content raises nothing.

    Raises:
        NotFound, Invalid: the file is missing, of an unknown kind, or lacks the named columns. Unavailable: the hub
        cannot be reached.
    """
    checked = _check_items(_items(data, columns, format), count_tokens, max_tokens)
    problems = [*checked.problems, *_check_number(len(checked.examples) + len(checked.preferences), provider)]
    checked = replace(checked, problems=_in_order(problems))
    if validation is not None:
        checked = with_validation(checked, _check_items(_items(validation, columns, format), count_tokens, max_tokens))
    if per_turn:
        return replace(checked, examples=tuple(turn for example in checked.examples for turn in example.per_turn()))
    return checked


def with_validation(checked: CheckedData, held_out: CheckedData) -> CheckedData:
    """The report on training data with the one on its validation data, without what is also in the training data."""
    problems = _in_order([*checked.problems, *_check_share(checked, held_out)])
    return replace(checked, problems=problems, validation=_without_leaks(checked, held_out))


def apply_token_limit(
    checked: CheckedData, tokens: Mapping[int, int], limit: int, estimate: bool = False
) -> CheckedData:
    """The same report with the rows over the limit left out and reported.

    Args:
        checked: what `check` returned.
        tokens: the tokens of each example, by line (from `planning.token_counts.count(…).lengths`).
        limit: the most tokens that an example may have.
        estimate: the numbers are estimates; an example over the limit is then only a warning, and is kept.
    """
    problems = [problem for line, number in tokens.items() for problem in _check_length(line, number, limit, estimate)]
    out = {problem.line for problem in problems if problem.severity == "error"}
    return replace(
        checked,
        examples=tuple(example for example in checked.examples if example.line not in out),
        preferences=tuple(pair for pair in checked.preferences if pair.line not in out),
        problems=_in_order([*checked.problems, *problems]),
    )


def require_usable(checked: CheckedData) -> CheckedData:
    """The same data, if it can be trained on.

    Raises:
        UnusableData: it cannot. The message has one line; the exception has all problems.
    """
    if checked.usable:
        return checked
    reason = next(problem for problem in checked.errors if problem.line == 0)
    raise UnusableData(
        f"The data cannot be used for training: {reason.message}; {checked.left_out} lines have errors. {reason.mend}.",
        checked.problems,
    )


def _items(data: Data, columns: Columns | None, format_: str) -> Reading:
    if isinstance(data, str | Path):
        return read(data, columns, format_)
    reading = Reading(iter(()), "memory")
    reading.items = count_unread(_from_memory(data, reading, columns.system if columns else None))
    if columns is not None and columns.fold_system:
        reading.items = fold_later(reading.items)
    return reading


def _from_memory(
    data: Iterable[Example | Conversation | Preference | Mapping[str, Any]], reading: Reading, system: str | None
) -> Items:
    read_row = row_reader()
    for raw in without_labels(Raw(line, item) for line, item in enumerate(data, 1)):
        if not isinstance(raw, Raw):
            yield raw
            continue
        line, item = raw.line, raw.row
        reading.lines = line
        if isinstance(item, Conversation):
            item = Example(line, item)
        for parsed in [item] if isinstance(item, Example | Preference) else read_row(line, item):
            yield with_system(parsed, system) if isinstance(parsed, Example | Preference) else parsed


def _check_items(
    reading: Reading, count_tokens: Callable[[Conversation], int] | None, limit: int | None
) -> CheckedData:
    """The examples of one file without errors, and all problems of the file by itself."""
    examples: list[Example] = []
    pairs: list[Preference] = []
    problems: list[Problem] = []
    kind = ""
    for item in reading:
        if isinstance(item, Problem):
            problems.append(item)
            continue
        kind = kind or _kind(item)
        if _kind(item) != kind:
            message = f"{_kind(item)} in a data set of {kind}"
            problems.append(Problem(item.line, "error", message, "put them into separate files", "mixed-kinds"))
            continue
        item_problems = list(_check_pair(item) if isinstance(item, Preference) else _check_example(item))
        if count_tokens and limit and not any(problem.severity == "error" for problem in item_problems):
            item_problems += _check_length(item.line, count_tokens(_as_example(item).conversation), limit)
        problems += item_problems
        if not any(problem.severity == "error" for problem in item_problems):
            pairs.append(item) if isinstance(item, Preference) else examples.append(item)
    all_examples = [*examples, *(_as_example(pair) for pair in pairs)]
    problems += check_consistency(all_examples)
    problems += _check_duplicates(all_examples)
    problems += _check_labels(examples)
    return CheckedData(
        tuple(examples), _in_order(problems), tuple(pairs), reading.name, reading.format, reading.lines
    )  # fmt: skip


def _kind(item: Example | Preference) -> str:
    if isinstance(item, Preference):
        return "preference pairs"
    return "conversations" if item.label is None else "labelled answers"


def _check_labels(examples: Sequence[Example]) -> Iterator[Problem]:
    """KTO compares good answers with bad ones."""
    labels = {example.label for example in examples}
    if len(labels) == 1 and None not in labels:
        word, instead = ("good", ", or remove the labels and use --method sft") if True in labels else ("bad", "")
        mend = f"add answers with the other label{instead}"
        yield Problem(0, "warning", f"every answer is labelled {word}", mend, "one-label")


def _check_example(example: Example) -> Iterator[Problem]:
    yield from check_turns(example)
    yield from check_texts(example)
    yield from check_personal(example)


def _check_pair(pair: Preference) -> Iterator[Problem]:
    mend = 'end the prompt with the user; write an answer as [{"role": "assistant", "content": …}]'
    for name, answer in (("preferred", pair.chosen), ("rejected", pair.rejected)):
        if not answer or answer[-1].role != "assistant":
            yield Problem(pair.line, "error", f"the {name} answer is not by the assistant", mend, "no-assistant")
            return
    if not pair.prompt or pair.prompt[-1].role == "assistant":
        yield Problem(pair.line, "error", "the prompt does not end with a user message", mend, "role-order")
    if pair.chosen == pair.rejected:
        yield Problem(pair.line, "error", "both answers are the same", "remove the line", "same-answers")
    yield from check_empty(pair.line, pair.rejected)
    yield from _check_example(_as_example(pair))


def _as_example(item: Example | Preference) -> Example:
    return item.preferred if isinstance(item, Preference) else item


def _check_length(line: int, tokens: int, limit: int, estimate: bool = False) -> Iterator[Problem]:
    if tokens > limit:
        message = f"{'about ' if estimate else ''}{tokens:,} tokens, over the limit of {limit:,}"
        severity = "warning" if estimate else "error"
        yield Problem(line, severity, message, "shorten or split the conversation", "over-token-limit")


def _check_duplicates(examples: Sequence[Example]) -> Iterator[Problem]:
    mend = "keep one, unless it should count more"
    for pair in find_duplicates([compared_text(example) for example in examples]).pairs:
        line, first = examples[pair.place].line, examples[pair.first].line
        if line == first:
            continue  # two answers of one line
        if pair.exact:
            yield Problem(line, "warning", f"the same as line {first}", mend, "duplicate")
        else:
            message = f"nearly the same as line {first} ({pair.overlap:.0%} alike)"
            yield Problem(line, "warning", message, mend, "near-duplicate")


def _check_share(training: CheckedData, held_out: CheckedData) -> Iterator[Problem]:
    train_size, held_size = (len(part.examples) + len(part.preferences) for part in (training, held_out))
    share = held_size / max(train_size + held_size, 1)
    if not _HELD_OUT[0] <= share <= _HELD_OUT[1]:
        message = f"{share:.1%} of the examples are for validation"
        mend = "hold out 10 to 20 %: less gives unreliable figures, more leaves too little to train on"
        yield Problem(0, "warning", message, mend, "validation-share")


def _without_leaks(training: CheckedData, held_out: CheckedData) -> CheckedData:
    """The validation part without questions of the training part; near copies are kept and reported.

    The same question with another answer is a leak too: `split` never puts it on both sides either.
    """
    trained, held = ([*part.examples, *map(_as_example, part.preferences)] for part in (training, held_out))
    lines = {question_key(example): example.line for example in trained}
    groups = find_duplicates([compared_text(example) for example in (*trained, *held)]).groups
    problems: list[Problem] = []
    for example, group in zip(held, groups[len(trained) :], strict=True):
        if (line := lines.get(question_key(example))) is not None:
            mend = "keep each question in one file, as `parley data split` does"
            message = f"the same question as line {line} of the training data"
            problems.append(Problem(example.line, "error", message, mend, "leakage"))
        elif group < len(trained):
            message = f"nearly the same as line {trained[group].line} of the training data"
            mend = "keep similar examples in one file, as `parley data split` does"
            problems.append(Problem(example.line, "warning", message, mend, "near-leakage"))
    out = {problem.line for problem in problems if problem.severity == "error"}
    return replace(
        held_out,
        examples=tuple(example for example in held_out.examples if example.line not in out),
        preferences=tuple(pair for pair in held_out.preferences if pair.line not in out),
        problems=_in_order([*held_out.problems, *problems]),
    )


def _check_number(examples: int, provider: Provider) -> Iterator[Problem]:
    if examples >= FEW:
        return
    if examples == 0:
        yield Problem(0, "error", "no usable example", "Fix the lines that have errors", "too-few")
    elif examples < FEWEST and provider == "openai":
        message = f"{examples} usable examples, but OpenAI needs at least {FEWEST}"
        yield Problem(0, "error", message, f"Add examples: a model can learn a style from {FEW} or more", "too-few")
    else:
        yield Problem(
            0, "warning", f"only {examples} examples", f"Add examples: {FEW} or more teach a style better", "too-few"
        )


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.line))
