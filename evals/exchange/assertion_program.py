"""Grades an answer by one of promptfoo's assertions, without a model. This file is the source of a Python grader.

It imports the standard library and jsonschema only, because it runs in the sandbox. An assertion is promptfoo's JSON:
type, value, threshold, weight; variables in the value are fields of the item. `applies` names a field of the item that
says whether the assertion belongs to it: it passes where it does not.
"""

import csv
import json
import re

_VARIABLE = re.compile(r"\{\{-?\s*([^{}]*?)\s*-?\}\}")


def grade_assertion(assertion, sample, item):
    """The assertion's score: 1 or 0, or the mean of a set."""
    if "applies" in assertion and not item.get(assertion["applies"]):
        return 1.0
    if assertion["type"] == "assert-set":
        return _grade_set(assertion, sample, item)
    kind = assertion["type"]
    negated = kind.startswith("not-")
    passed = _passes(kind.removeprefix("not-"), assertion, sample, item)
    return float(passed != negated)


def _grade_set(assertion, sample, item):
    """The mean by weight if there is a threshold; otherwise 1 if all pass."""
    parts = [(part.get("weight", 1), grade_assertion(part, sample, item)) for part in assertion["assert"]]
    if assertion.get("threshold") is None:
        return float(all(score >= 1 for weight, score in parts if weight))
    total = sum(weight for weight, _ in parts)
    return sum(weight * score for weight, score in parts) / total if total else 1.0


def _passes(kind, assertion, sample, item):
    text = sample.get("output_text") or ""
    value = _filled(assertion.get("value"), item)
    match kind:
        case "equals":
            return _json(text) == (True, value) if isinstance(value, (dict, list)) else text == _text(value)
        case "contains":
            return _text(value) in text
        case "icontains":
            return _text(value).lower() in text.lower()
        case "contains-any" | "contains-all" | "icontains-any" | "icontains-all":
            return _contains_several(kind, text, value)
        case "starts-with":
            return text.startswith(_text(value))
        case "regex":
            return re.search(_text(value), text) is not None
        case "levenshtein":
            return _distance(text, _text(value)) <= assertion.get("threshold", 5)
        case "word-count":
            return _word_count(len(text.split()), value)
        case "finish-reason":
            return (_finish_reason(sample) or "").lower() == _text(value).lower()
        case "is-json":
            is_json, found = _json(text)
            return is_json and _matches(found, value)
        case "contains-json":
            return any(_matches(found, value) for found in _json_parts(text))
    raise ValueError(f"The assertion {kind} cannot be recomputed: only its recorded verdicts are known.")


def _filled(value, item):
    """The value with its variables filled in; a text that is one variable becomes that field."""
    if isinstance(value, list):
        return [_filled(part, item) for part in value]
    if isinstance(value, dict):
        return {name: _filled(part, item) for name, part in value.items()}
    if not isinstance(value, str):
        return value
    if match := _VARIABLE.fullmatch(value):
        return _field(match[1], item)
    return _VARIABLE.sub(lambda match: _text(_field(match[1], item)), value)


def _field(path, item):
    value = item
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise KeyError(f"{path} has no value")
    return value


def _text(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _contains_several(kind, text, value):
    values = value if isinstance(value, list) else next(csv.reader([_text(value)], skipinitialspace=True), [])
    values = [_text(each).strip() if isinstance(value, str) else _text(each) for each in values]
    if kind.startswith("i"):
        text, values = text.lower(), [each.lower() for each in values]
    return (any if kind.endswith("any") else all)(each in text for each in values)


def _distance(text, reference):
    row = list(range(len(reference) + 1))
    for place, character in enumerate(text, start=1):
        corner, row[0] = row[0], place
        for column, other in enumerate(reference, start=1):
            corner, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, corner + (character != other))
    return row[-1]


def _word_count(count, value):
    if isinstance(value, dict):
        return value.get("min", 0) <= count <= value.get("max", count)
    return count == float(value)


def _finish_reason(sample):
    choices = sample.get("choices") or [{}]
    return sample.get("finish_reason") or choices[0].get("finish_reason")


def _json(text):
    """Whether the text is JSON, and its value."""
    try:
        return True, json.loads(text)
    except ValueError:
        return False, None


def _json_parts(text):
    """The JSON objects and arrays in a text."""
    decoder, place = json.JSONDecoder(), 0
    while (match := re.compile(r"[{\[]").search(text, place)) is not None:
        try:
            found, place = decoder.raw_decode(text, match.start())
        except ValueError:
            place = match.end()
            continue
        yield found


def _matches(found, schema):
    if not schema:
        return True
    import jsonschema

    try:
        jsonschema.validate(found, json.loads(schema) if isinstance(schema, str) else schema)
    except jsonschema.ValidationError:
        return False
    return True
