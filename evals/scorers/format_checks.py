"""Scorers of an answer's format: patterns, JSON and its schema, refusals."""

import json
import re
from collections.abc import Mapping
from typing import Any

from evals.scorers.sample import Sample, Scorer
from models.errors import Invalid

_TIMEOUT_S = 1.0  # for one pattern on one answer: some patterns backtrack for ever
_OPENING = 240  # characters: a refusal comes first
_UNWILLING = (
    r"(?:can(?:no|['’])t|can not|am unable to|['’]m unable to|am not able to|['’]m not able to|won['’]t|will not)"
)
# How models refuse in English; refusals in other languages are not detected.
_REFUSAL = re.compile(
    rf"\bI\s?{_UNWILLING}\s+(?:\w+ ){{0,2}}"
    r"(?:help|assist|answer|provide|do that|comply|fulfil|fulfill|discuss|support|give|share|create|write|generate)\b"
    r"|\bas an? (?:AI|artificial intelligence|language model|large language model)\b"
    r"|\bI must (?:decline|refuse)\b|\bI have to (?:decline|refuse)\b|\bI(?:['’]d| would) rather not\b"
    r"|\b(?:against|violates?) (?:my|our|the) (?:guidelines|policy|policies|principles|rules)\b",
    re.IGNORECASE,
)


def regex(pattern: str) -> Scorer:
    """1 if the answer contains a match of the pattern; None if the search takes over a second.

    Raises:
        Invalid: it is not a pattern.
    """
    # Not the standard library's `re`, which has no timeout for patterns like (a+)+$.
    import regex as patterns

    try:
        wanted = patterns.compile(pattern)
    except patterns.error as error:
        raise Invalid(f"regex:{pattern} is not a valid pattern: {error}.", param="scorers") from error

    def score(sample: Sample, answer: str) -> float | None:
        try:
            return float(wanted.search(answer, timeout=_TIMEOUT_S) is not None)
        except TimeoutError:
            return None

    return score


def valid_json() -> Scorer:
    """1 if the whole answer is one JSON value (RFC 8259: no NaN, no text around it)."""

    def score(sample: Sample, answer: str) -> float:
        return float(_parsed(answer) is not _NOT_JSON)

    return score


def json_schema(schema: Mapping[str, Any] | bool | None = None) -> Scorer:
    """1 if the answer is JSON that fits the schema, or the one in the sample's metadata, `schema`.

    References to other files are not fetched; with such a schema an answer has no score.

    Raises:
        Invalid: the schema is not valid.
    """
    from referencing.exceptions import Unresolvable

    given = None if schema is None else schema_validator(schema)

    def score(sample: Sample, answer: str) -> float | None:
        if given is None and "schema" not in sample.metadata:
            return None
        value = _parsed(answer)
        if value is _NOT_JSON:
            return 0.0
        try:
            return float((given or schema_validator(sample.metadata["schema"])).is_valid(value))
        except RecursionError:
            return 0.0
        except (Invalid, Unresolvable):
            return None

    return score


def refusal() -> Scorer:
    """1 if the answer starts with a refusal (in English); neither good nor bad by itself."""

    def score(sample: Sample, answer: str) -> float:
        return float(_REFUSAL.search(answer[:_OPENING]) is not None)

    return score


_NOT_JSON = object()


def _parsed(answer: str) -> Any:
    try:
        return json.loads(answer, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def schema_validator(schema: Any) -> Any:
    """A validator of a JSON schema that fetches nothing.

    Raises:
        Invalid: the schema is not valid.
    """
    import jsonschema
    from jsonschema_specifications import REGISTRY

    try:
        kind: Any = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
    except (jsonschema.SchemaError, TypeError, AttributeError) as error:
        reason = getattr(error, "message", str(error))
        raise Invalid(f"The JSON schema is not valid: {reason}.", param="schema") from error
    # An explicit registry: without one, jsonschema fetches references over the network.
    return kind(schema, registry=REGISTRY)
