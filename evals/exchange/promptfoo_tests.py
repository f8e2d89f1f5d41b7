"""The tests of a promptfooconfig.yaml: inline or in files, with the default test, CSV's columns, and their files."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evals.exchange.assertion_slots import Losses, PromptfooTest
from evals.exchange.assertions import check_computed
from evals.exchange.folder import Folder, NotMapped
from evals.exchange.nunjucks import resolve_variables

MOST_TESTS = 100_000
_KNOWN = {"vars", "assert", "description", "threshold", "options", "metadata"}
_TEXTS, _VALUES = (".txt", ".md"), (".json", ".yaml", ".yml")
_TYPED = re.compile(
    r"(?P<type>(?:not-)?[a-z][a-z0-9:-]*?)(?:\((?P<threshold>\d+(?:\.\d+)?)\))?(?::(?P<value>.*))?", re.DOTALL
)
_PLAIN = ("is-json", "contains-json", "is-xml", "is-sql", "is-html", "is-refusal")  # types without a value
_PREFIXES = {"grade": "llm-rubric", "fn": "javascript", "eval": "javascript"}
_WITH_DEFAULT = ("levenshtein", "rouge-n", "similar", "starts-with", "cost", "latency")


@dataclass(frozen=True)
class TestReader:
    """Reads tests with a folder's files. `root` is the whole configuration, to which references point."""

    folder: Folder
    root: Mapping[str, Any]
    losses: Losses

    def read(self) -> list[PromptfooTest]:
        """All tests, with the default test's variables and assertions."""
        default = self._default()
        tests: list[PromptfooTest] = []
        for place, raw in enumerate(self._raw_tests(self.root.get("tests")), start=1):
            try:
                for made in self._tests(raw, default, place):
                    tests.append(PromptfooTest(len(tests) + 1, made.variables, made.assertions))
            except NotMapped as error:
                self.losses.add(f"the test is not imported, {error}", place)
            if len(tests) > MOST_TESTS:
                raise NotMapped(f"there are more than {MOST_TESTS:,} tests")
        return tests

    def _default(self) -> Mapping[str, Any]:
        default = self.root.get("defaultTest") or {}
        try:
            default = self.folder.value(default) if isinstance(default, str) else default
            if not isinstance(default, dict):
                raise NotMapped("it is not an object")
        except NotMapped as error:
            self.losses.add(f"defaultTest: {error}")
            return {}
        return default

    def _raw_tests(self, tests: Any) -> Iterator[Any]:
        """The tests as objects, from the configuration and its files."""
        if tests is None:
            yield {}  # promptfoo asks each prompt once
            return
        for entry in tests if isinstance(tests, list) else [tests]:
            path = entry.get("path") if isinstance(entry, dict) and "path" in entry else entry
            if not isinstance(path, str):
                yield entry
                continue
            try:
                for name in self.folder.glob(path):
                    rows = self.folder.rows(name)
                    yield from (from_table_row(row) if name.endswith((".csv", ".tsv")) else row for row in rows)
            except NotMapped as error:
                self.losses.add(f"tests: {error}")

    def _tests(self, raw: Any, default: Mapping[str, Any], place: int) -> Iterator[PromptfooTest]:
        if not isinstance(raw, dict):
            raise NotMapped("because it is not an object")
        for key in sorted({*raw, *default} - _KNOWN):
            self.losses.add(f"the field {str(key)[:60]} of a test is not supported", place)
        options = {**_object(default.get("options")), **_object(raw.get("options"))}
        given = {**self._variables(default.get("vars"), place), **self._variables(raw.get("vars"), place)}
        assertions = self._assertions([default.get("assert"), raw.get("assert")], options, place)
        threshold = raw.get("threshold", default.get("threshold"))
        if threshold is not None:
            assertions = self._with_threshold(assertions, threshold, place)
        expand = not options.get("disableVarExpansion")
        for values in _expanded(given) if expand else [given]:
            yield PromptfooTest(place, resolve_variables(values), assertions)

    def _variables(self, given: Any, place: int) -> dict[str, Any]:
        if isinstance(given, str):
            given = self.folder.value(given)
        values: dict[str, Any] = {}
        for name, value in _object(given).items():
            if any(mark in name for mark in ".[]{}"):
                raise NotMapped(f"because {name[:60]!r} is not the name of a variable here")
            try:
                values[name] = self._file_value(value)
            except NotMapped as error:
                self.losses.add(f"the variable {name[:60]} is left empty, because {error}", place)
                values[name] = ""
        return values

    def _file_value(self, value: Any) -> Any:
        if not isinstance(value, str) or not value.startswith("file://"):
            return value
        if value.endswith(_VALUES):
            return self.folder.value(value)
        if value.endswith(_TEXTS):
            return self.folder.text(value).rstrip("\n")
        raise NotMapped(f"{value.removeprefix('file://')[:80]} is not a text, JSON or YAML file")

    def _assertions(self, parts: Iterable[Any], options: Mapping[str, Any], place: int) -> list[dict[str, Any]]:
        raw = [each for part in parts for each in (part if isinstance(part, list) else [part] if part else [])]
        if raw and (options.get("transform") or options.get("postprocess")):
            self.losses.add("the assertions are not imported, because the test transforms the answer with code", place)
            return []
        for key in sorted(
            set(options) - {"provider", "rubricPrompt", "disableVarExpansion", "transform", "postprocess"}
        ):
            self.losses.add(f"options.{str(key)[:60]} is not supported", place)
        made = []
        for each in raw:
            try:
                made += self._assertion(each, options, place)
            except NotMapped as error:
                kind = each.get("type", "") if isinstance(each, dict) else ""
                self.losses.add(f"assertion {str(kind)[:60]}: {error}".replace(" :", ":"), place)
        return made

    def _assertion(self, raw: Any, options: Mapping[str, Any], place: int) -> list[dict[str, Any]]:
        """An assertion with its files read; a set without a threshold becomes its parts."""
        if isinstance(raw, dict) and isinstance(raw.get("$ref"), str):
            raw = self._reference(raw["$ref"])
        if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
            raise NotMapped("it is not an object with a type")
        assertion = {key: value for key, value in raw.items() if value is not None}
        if assertion["type"] == "assert-set":
            parts = assertion.get("assert")
            if not isinstance(parts, list):
                raise NotMapped("it has no list of assertions")
            made = [each for part in parts for each in self._assertion(part, options, place)]
            return self._with_threshold(made, assertion.get("threshold"), place, assertion.get("metric"))
        _check_numbers(assertion)
        if assertion.get("weight", 1) != 1:
            self.losses.add(
                f"assertion {assertion['type'][:60]}: its weight counts in a set with a threshold only", place
            )
        for key in ("provider", "rubricPrompt"):
            if key in options:
                assertion.setdefault(key, options[key])
        if isinstance(prompt := assertion.get("rubricPrompt"), str) and prompt.startswith("file://"):
            assertion["rubricPrompt"] = self.folder.text(prompt)
        if (
            not assertion["type"]
            .removeprefix("not-")
            .startswith(("llm-rubric", "model-graded", "factuality", "g-eval"))
        ):
            assertion.pop("provider", None)
            assertion.pop("rubricPrompt", None)
        value = assertion.get("value")
        if isinstance(value, str) and value.startswith("file://"):
            assertion["value"] = self._assertion_file(assertion["type"], value)
        return [assertion]

    def _assertion_file(self, kind: str, path: str) -> Any:
        if kind == "python":
            name, colon, function = path.removeprefix("file://").rpartition(":")
            if not colon:
                return self.folder.text(path)
            code = self.folder.text(name)
            if function == "get_assert":
                return code
            call = f"return {_identifier(function)}(output, context)"
            return f"{code}\n\ndef get_assert(output, context):\n    {call}\n"
        return self._file_value(path)

    def _reference(self, path: str) -> Any:
        value: Any = self.root
        for step in path.removeprefix("#/").split("/"):
            value = value.get(step) if isinstance(value, dict) else None
        if not isinstance(value, dict) or "$ref" in value:
            raise NotMapped(f"there is no {path[:80]}")
        return value

    def _with_threshold(
        self, assertions: list[dict[str, Any]], threshold: Any, place: int, name: Any = None
    ) -> list[dict[str, Any]]:
        """Several assertions as one set with a threshold; as they are if a model is among them."""
        if threshold is None or not assertions:
            return assertions
        _check_numbers({"threshold": threshold})
        try:
            for assertion in assertions:
                check_computed(assertion | {"value": "x"} if "value" in assertion else assertion)
        except NotMapped:
            self.losses.add(
                "the threshold over several assertions is lost, because some need a model or code: all have to pass",
                place,
            )
            return assertions
        made = {"type": "assert-set", "threshold": threshold, "assert": assertions}
        return [made | ({"metric": name} if isinstance(name, str) else {})]


def from_table_row(row: Mapping[str, str]) -> dict[str, Any]:
    """A test from a CSV's row: columns are variables, `__expected` and `__expected2` are assertions."""
    given = {name: value for name, value in row.items() if not name.startswith("__")}
    test: dict[str, Any] = {"vars": given, "assert": []}
    for name, value in row.items():
        if name.startswith("__expected") and value.strip():
            test["assert"].append(from_expected(value.strip()))
        elif name == "__description":
            test["description"] = value
        elif name == "__threshold" and value.strip():
            test["threshold"] = _number(value)
        elif name.startswith("__metadata"):
            test["metadata"] = value
        elif name.startswith("__") and not name.startswith("__expected") and value.strip() and name != "__metric":
            test[name] = value
    if metric := row.get("__metric", "").strip():
        for assertion in test["assert"]:
            assertion["metric"] = metric
    return test


def from_expected(text: str) -> dict[str, Any]:
    """An assertion in one text, such as `contains:Oslo` or `similar(0.8):Oslo`; any other text must be equal."""
    if text.startswith("file://"):
        return {"type": "python" if ".py" in text else "javascript", "value": text}
    match = _TYPED.fullmatch(text)
    if match is None or (match["value"] is None and match["type"].removeprefix("not-") not in _PLAIN):
        return {"type": "equals", "value": text}
    kind = _PREFIXES.get(match["type"], match["type"])
    if not _is_known(kind):
        return {"type": "equals", "value": text}
    assertion: dict[str, Any] = {"type": kind}
    if match["value"]:
        value = match["value"].strip()
        several = kind.endswith(("contains-any", "contains-all"))
        assertion["value"] = next(csv.reader([value], skipinitialspace=True)) if several else value
    if match["threshold"]:
        assertion["threshold"] = float(match["threshold"])
    elif kind.removeprefix("not-") in _WITH_DEFAULT:
        assertion["threshold"] = 0.75  # promptfoo's, in this form
    return assertion


def _is_known(kind: str) -> bool:
    from evals.exchange.assertions import KNOWN_TYPES

    return kind.removeprefix("not-") in KNOWN_TYPES


def _check_numbers(assertion: Mapping[str, Any]) -> None:
    for key in ("threshold", "weight"):
        value = assertion.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NotMapped(f"its {key} is not a number")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise NotMapped(f"{name[:60]!r} is not the name of a function")
    return name


def _object(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise NotMapped("because a part of it is not an object")
    return value


def _expanded(given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A variable with a list of texts means one test for each, in all combinations."""
    lists = {name: value for name, value in given.items() if isinstance(value, list)}
    total = 1
    for value in lists.values():
        total *= max(len(value), 1)
    if total > MOST_TESTS:
        raise NotMapped(f"because its lists mean more than {MOST_TESTS:,} tests")
    for combination in itertools.product(*lists.values()):
        yield {**given, **dict(zip(lists, combination, strict=True))}
