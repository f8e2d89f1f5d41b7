"""The assertions of many tests as the graders of one eval.

In promptfoo each test has its own assertions; in an eval all items have the same graders. Assertions that differ in
their values only become one grader, whose values are fields of the items.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals.eval_runs.requests import MAX_CRITERIA
from evals.eval_runs.verification import RECORDED_ONLY
from evals.exchange.assertions import PROMPTFOO_ADAPTER, assertion_source, check_computed, to_grader
from evals.exchange.folder import NotMapped
from evals.exchange.nunjucks import fill, variables

_MOST_NAME = 200
_FEW = 5  # places that a message names


@dataclass(frozen=True)
class PromptfooTest:
    """One test: its variables, which become an item, and its assertions with their files read. `place` is from 1."""

    place: int
    variables: Mapping[str, Any]
    assertions: Sequence[Mapping[str, Any]]


@dataclass
class Slot:
    """An assertion that several tests have, with their values; `values`: test's place → the texts of the assertion."""

    key: str
    shape: Mapping[str, Any]
    name: str
    values: dict[int, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Graded:
    """Graders with ids, the items of the tests in order, and for each test (by place) the ids of its assertions."""

    criteria: list[dict[str, Any]]
    items: list[dict[str, Any]]
    ids: dict[int, list[str | None]]


@dataclass
class Losses:
    """Reasons why parts are not imported, each with the places of the tests."""

    by_reason: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, reason: str, *places: int) -> None:
        """Adds a reason, for some tests or for the whole."""
        self.by_reason[reason] += places

    def lines(self) -> list[str]:
        """A line for each reason."""
        return [f"{_places(places)}{reason}." for reason, places in self.by_reason.items()]


def grade_tests(tests: Sequence[PromptfooTest], judge: str | None, losses: Losses) -> Graded:
    """The graders and items of tests that share their assertions, as `group_tests` groups them."""
    slots, keys = _slots(tests, judge, losses, recorded=False)
    return _graded(tests, slots, keys, judge, losses, recorded=False)


def grade_recorded(tests: Sequence[PromptfooTest], losses: Losses) -> Graded:
    """As `grade_tests` for tests with recorded verdicts: an assertion without a counterpart stays as a name."""
    slots, keys = _slots(tests, None, losses, recorded=True)
    return _graded(tests, slots, keys, None, losses, recorded=True)


def group_tests(tests: Sequence[PromptfooTest], judge: str | None) -> list[list[PromptfooTest]]:
    """Tests that can share an eval: those with the same assertions, apart from the ones that an item can lack."""
    slots, keys = _slots(tests, judge, Losses(), recorded=False)
    groups: dict[tuple[str, ...], list[PromptfooTest]] = defaultdict(list)
    for test in tests:
        own = sorted({key for key in keys[test.place] if key is not None and not _is_computed(slots[key].shape)})
        groups[tuple(own)].append(test)
    return list(groups.values())


def _slots(
    tests: Sequence[PromptfooTest], judge: str | None, losses: Losses, *, recorded: bool
) -> tuple[dict[str, Slot], dict[int, list[str | None]]]:
    slots: dict[str, Slot] = {}
    keys: dict[int, list[str | None]] = {}
    problems: dict[str, str | None] = {}  # many tests have the same assertion
    for test in tests:
        own: list[str | None] = []
        for assertion in test.assertions:
            written = json.dumps(assertion, sort_keys=True)
            if written not in problems:
                problems[written] = None if recorded else _problem(assertion, judge)
            if problem := problems[written]:
                losses.add(f"assertion {assertion['type']}: {problem}", test.place)
                own.append(None)
                continue
            slot = _slot(assertion, own)
            slots.setdefault(slot.key, slot).values[test.place] = list(_values(assertion))
            own.append(slot.key)
        keys[test.place] = own
    return slots, keys


def _graded(
    tests: Sequence[PromptfooTest],
    slots: Mapping[str, Slot],
    keys: Mapping[int, list[str | None]],
    judge: str | None,
    losses: Losses,
    *,
    recorded: bool,
) -> Graded:
    items = {test.place: dict(test.variables) for test in tests}
    by_place = {test.place: test for test in tests}
    criteria: list[dict[str, Any]] = []
    ids: dict[str, str | None] = {}
    for number, slot in enumerate(slots.values(), start=1):
        ids[slot.key] = f"{slot.name[:_MOST_NAME]}-{number}"
        try:
            if len(criteria) == MAX_CRITERIA and not recorded:
                raise NotMapped(f"an eval has at most {MAX_CRITERIA} graders")
            assertion = _with_fields(slot, by_place, items)
            if not recorded and len(slot.values) < len(tests):
                applies = _free_name(f"{slot.name}_applies", items)
                for place, item in items.items():
                    item[applies] = place in slot.values
                assertion |= {"applies": applies}
            criteria.append(to_grader(assertion, slot.name, judge) | {"id": ids[slot.key]})
        except NotMapped as error:
            if recorded:
                criteria.append(_recorded_criterion(slot, str(error).rstrip(".")) | {"id": ids[slot.key]})
                continue
            losses.add(f"assertion {slot.shape['type']}: {str(error).rstrip('.')}", *slot.values)
            ids[slot.key] = None
    return Graded(
        criteria,
        list(items.values()),
        {place: [ids[key] if key else None for key in own] for place, own in keys.items()},
    )


def _problem(assertion: Mapping[str, Any], judge: str | None) -> str | None:
    """Why an assertion has no grader; None if it has one."""
    try:
        to_grader(assertion, "grader", judge)
    except NotMapped as error:
        return str(error).rstrip(".")
    return None


def _recorded_criterion(slot: Slot, reason: str) -> dict[str, Any]:
    """A criterion for verdicts that cannot be computed here: its program says so."""
    shared = next(iter(slot.values.values()), [])
    same = all(values == shared for values in slot.values.values())
    assertion = _with_values(slot.shape, iter(shared if same else [None] * len(shared)))
    return {"type": "python", "name": slot.name, "source": assertion_source(assertion), RECORDED_ONLY: reason}


def _slot(assertion: Mapping[str, Any], before: Sequence[str | None]) -> Slot:
    shape = _shape(assertion)
    name = str(assertion.get("metric") or assertion["type"])[:_MOST_NAME]
    key = base = json.dumps(shape, sort_keys=True, default=str)
    number = 1
    while key in before:
        number += 1
        key = f"{base} {number}"
    return Slot(key, shape, name)


def _shape(assertion: Mapping[str, Any]) -> dict[str, Any]:
    """The assertion without its values. The code of a Python assertion is no value."""
    if assertion["type"] == "assert-set":
        return {**assertion, "assert": [_shape(part) for part in assertion["assert"]]}
    return dict(assertion) if assertion["type"] == "python" else {**assertion, "value": None}


def _values(assertion: Mapping[str, Any]) -> Iterator[Any]:
    if assertion["type"] == "assert-set":
        for part in assertion["assert"]:
            yield from _values(part)
    elif assertion["type"] != "python":
        yield assertion.get("value")


def _with_values(shape: Mapping[str, Any], values: Iterator[Any]) -> dict[str, Any]:
    if shape["type"] == "assert-set":
        return {**shape, "assert": [_with_values(part, values) for part in shape["assert"]]}
    if shape["type"] == "python":
        return dict(shape)
    value = next(values)
    return {
        **{key: each for key, each in shape.items() if key != "value"},
        **({} if value is None else {"value": value}),
    }


def _with_fields(slot: Slot, tests: Mapping[int, PromptfooTest], items: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """The slot's assertion: a value that all tests share as it is, and another as a field of the items."""
    values: list[Any] = []
    for place, column in enumerate(zip(*slot.values.values(), strict=True)):
        first = column[0]
        if all(value == first for value in column) and _have(first, [tests[each] for each in slot.values]):
            values.append(first)
            continue
        field_name = _free_name(f"{slot.name}_value", items)
        for each, own in slot.values.items():
            items[each][field_name] = fill(own[place], tests[each].variables)
        values.append(f"{{{{{field_name}}}}}")
    return _with_values(slot.shape, iter(values))


def _have(value: Any, tests: Sequence[PromptfooTest]) -> bool:
    """Whether all tests have the variables of a value."""
    if not isinstance(value, str):
        return "{{" not in json.dumps(value)
    names = {name.split(".")[0].split("[")[0] for name in variables(value)}
    return all(names <= set(test.variables) for test in tests)


def _free_name(wanted: str, items: Mapping[int, Mapping[str, Any]]) -> str:
    """A name of letters, digits and underscores that no item has yet."""
    base = "".join(char if char.isascii() and char.isalnum() else "_" for char in wanted) or "value"
    base = base if base[0].isalpha() else f"_{base}"
    taken = {name for item in items.values() for name in item}
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


def _is_computed(shape: Mapping[str, Any]) -> bool:
    """Whether an item can lack the assertion."""
    if shape["type"] == "python":
        return not str(shape.get("value", "")).endswith(PROMPTFOO_ADAPTER)
    if shape["type"].removeprefix("not-") == "word-count":
        return True
    try:
        check_computed(_with_values(shape, iter(lambda: "x", None)))
    except NotMapped:
        return False
    return True


def _places(places: Sequence[int]) -> str:
    named = sorted(set(places))
    if not named:
        return ""
    shown = ", ".join(str(place) for place in named[:_FEW])
    more = f" and {len(named) - _FEW} more" if len(named) > _FEW else ""
    return f"{'test' if len(named) == 1 else 'tests'} {shown}{more}: "
