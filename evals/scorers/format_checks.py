"""Scorers of an answer's form: patterns, JSON and its schema, refusals. They ask no model and fetch nothing."""

import json
import re
from collections.abc import Mapping
from typing import Any

from evals.scorers.sample import Sample, Scorer
from models.errors import Invalid

_PATIENCE_S = 1.0  # for one pattern on one answer: some patterns take for ever on some texts
_OPENING = 240  # characters: a refusal stands at the beginning
_UNWILLING = (
    r"(?:can(?:no|['’])t|can not|am unable to|['’]m unable to|am not able to|['’]m not able to|won['’]t|will not)"
)
# How models refuse in English; what is refused in another language is not seen.
_REFUSAL = re.compile(
    rf"\bI\s?{_UNWILLING}\s+(?:\w+ ){{0,2}}"
    r"(?:help|assist|answer|provide|do that|comply|fulfil|fulfill|discuss|support|give|share|create|write|generate)\b"
    r"|\bas an? (?:AI|artificial intelligence|language model|large language model)\b"
    r"|\bI must (?:decline|refuse)\b|\bI have to (?:decline|refuse)\b|\bI(?:['’]d| would) rather not\b"
    r"|\b(?:against|violates?) (?:my|our|the) (?:guidelines|policy|policies|principles|rules)\b",
    re.IGNORECASE,
)


def regex(pattern: str) -> Scorer:
    """1 where the pattern is found in the answer; None where the search takes over a second.

    Raises:
        Invalid: it is no pattern.
    """
    # Not the standard library's, which can hang on a pattern like (a+)+$ and cannot be stopped.
    import regex as patterns

    try:
        wanted = patterns.compile(pattern)
    except patterns.error as error:
        raise Invalid(f"regex:{pattern} is no pattern: {error}.", param="scorers") from error

    def score(sample: Sample, answer: str) -> float | None:
        try:
            return float(wanted.search(answer, timeout=_PATIENCE_S) is not None)
        except TimeoutError:
            return None

    return score


def valid_json() -> Scorer:
    """1 where the whole answer is one JSON value (RFC 8259: no NaN, no text around it)."""

    def score(sample: Sample, answer: str) -> float:
        return float(_parsed(answer) is not _NOTHING)

    return score


def json_schema(schema: Mapping[str, Any] | bool | None = None) -> Scorer:
    """1 where the answer is JSON that fits the schema, or the one in the sample's metadata, `schema`.

    A reference to another file is not fetched: an answer held against such a schema has no score.

    Raises:
        Invalid: the schema is none.
    """
    from referencing.exceptions import Unresolvable

    given = None if schema is None else _validator(schema)

    def score(sample: Sample, answer: str) -> float | None:
        if given is None and "schema" not in sample.metadata:
            return None
        value = _parsed(answer)
        if value is _NOTHING:
            return 0.0
        try:
            return float((given or _validator(sample.metadata["schema"])).is_valid(value))
        except RecursionError:
            return 0.0
        except (Invalid, Unresolvable):
            return None

    return score


def refusal() -> Scorer:
    """1 where the answer begins by refusing, in the English that models refuse in; neither good nor bad by itself."""

    def score(sample: Sample, answer: str) -> float:
        return float(_REFUSAL.search(answer[:_OPENING]) is not None)

    return score


_NOTHING = object()


def _parsed(answer: str) -> Any:
    try:
        return json.loads(answer, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return _NOTHING


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _validator(schema: Any) -> Any:
    import jsonschema
    from jsonschema_specifications import REGISTRY

    try:
        kind: Any = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
    except (jsonschema.SchemaError, TypeError, AttributeError) as error:
        said = getattr(error, "message", str(error))
        raise Invalid(f"That is no JSON schema: {said}.", param="schema") from error
    # A registry of its own: without one, jsonschema would fetch references over the network.
    return kind(schema, registry=REGISTRY)
