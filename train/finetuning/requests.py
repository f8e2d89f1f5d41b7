"""What a create request may ask for: OpenAI's fields, their types and limits, and the errors for all others.

It looks at the body alone: whether a file or a model is there is `creating`'s business.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import Invalid

Auto = Literal["auto"]
NUMBERS = ("n_epochs", "batch_size", "learning_rate_multiplier")
_Key = Annotated[str, Field(min_length=1, max_length=64)]
_Value = Annotated[str, Field(max_length=512)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Hyperparameters(_Body):
    """Numbers of a training, each its value or "auto"."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] | None = None
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] | None = None
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] | None = None


class DpoHyperparameters(Hyperparameters):
    """The same, and the strength of the preference."""

    beta: Auto | Annotated[float, Field(gt=0, le=2)] | None = None


class Supervised(_Body):
    """Learning from good answers."""

    hyperparameters: Hyperparameters | None = None


class Dpo(_Body):
    """Learning from pairs of a better and a worse answer."""

    hyperparameters: DpoHyperparameters | None = None


class Method(_Body):
    """How to learn."""

    type: Literal["supervised", "dpo"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None


class Wandb(_Body):
    """A project at Weights & Biases."""

    project: Annotated[str, Field(min_length=1)]
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class Integration(_Body):
    """Where figures are sent to."""

    type: Literal["wandb"]
    wandb: Wandb


class CreateRequest(_Body):
    """A create request as OpenAI has it."""

    model: Annotated[str, Field(min_length=1)]
    training_file: Annotated[str, Field(min_length=1)]
    validation_file: str | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Annotated[dict[_Key, _Value], Field(max_length=16)] | None = None
    integrations: list[Integration] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None


@dataclass(frozen=True)
class Asked:
    """A create request that makes sense. `hyperparameters` has every number, or "auto"; beta only for dpo."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int | None = None
    method: Literal["supervised", "dpo"] = "supervised"
    hyperparameters: Mapping[str, int | float | str] = field(default_factory=dict)
    metadata: Mapping[str, str] | None = None
    integrations: tuple[Mapping[str, Any], ...] = ()

    def digest(self) -> str:
        """Equal for equal requests, whatever the order of their fields: SHA-256 in hex."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def parse(body: Mapping[str, Any]) -> Asked:
    """The request in a body.

    Raises:
        Invalid: one line, with `param` naming the field as OpenAI's errors do.
    """
    try:
        create = CreateRequest.model_validate(body)
    except ValidationError as error:
        raise _refused(error.errors()[0], body) from None
    method = create.method.type if create.method else "supervised"
    numbers = _numbers(create, method)
    return Asked(
        model=create.model,
        training_file=create.training_file,
        validation_file=create.validation_file or None,
        suffix=create.suffix,
        seed=create.seed,
        method=method,
        hyperparameters=numbers,
        metadata=create.metadata,
        integrations=tuple(one.model_dump(exclude_none=True) for one in create.integrations or ()),
    )


def _numbers(create: CreateRequest, method: str) -> dict[str, int | float | str]:
    """The method's hyperparameters, or the older ones at the top; "auto" for what is in neither."""
    older = _given(create.hyperparameters)
    newer: dict[str, Any] = {}
    if create.method is not None:
        others = [name for name in ("supervised", "dpo") if name != method and getattr(create.method, name) is not None]
        if others:
            raise Invalid(
                f"method.type is {method!r}, so method.{others[0]} must be left out.", param=f"method.{others[0]}"
            )
        chosen = create.method.dpo if method == "dpo" else create.method.supervised
        newer = _given(chosen.hyperparameters) if chosen else {}
    twice = [name for name, value in older.items() if newer.get(name, value) != value]
    if twice:
        raise Invalid(
            f"{twice[0]} stands in `method` and in the older `hyperparameters`, with two values: leave the older out.",
            param=f"hyperparameters.{twice[0]}",
        )
    names = (*NUMBERS, "beta") if method == "dpo" else NUMBERS
    return {name: (older | newer).get(name, "auto") for name in names}


def _given(numbers: Hyperparameters | None) -> dict[str, Any]:
    return numbers.model_dump(exclude_none=True) if numbers else {}


def _refused(error: Any, body: Mapping[str, Any]) -> Invalid:
    """pydantic's first error as OpenAI tells it."""
    place = [str(part) for part in error["loc"]]
    kind = error["type"]
    names = _existing(place, body)
    param = ".".join(names)
    if kind == "missing":
        return Invalid(f"you must provide a {param} parameter", param=param)
    if kind == "extra_forbidden":
        return Invalid(f"Unrecognized request argument supplied: {param}", param=param, code="unknown_parameter")
    value = error.get("input")
    if param == "method.type" and value == "reinforcement":
        return Invalid(
            "Reinforcement fine-tuning is not offered here: method.type is 'supervised' or 'dpo'.", param=param
        )
    wanted = _wanted(names, kind, error)
    shown = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return Invalid(f"Invalid value for {param}: {shown[:80]}. {wanted}", param=param)


def _existing(place: list[str], body: Any) -> list[str]:
    """The place without the names that pydantic adds for the branches of a union ('constrained-int', …)."""
    names: list[str] = []
    for position, part in enumerate(place):
        if isinstance(body, Mapping):
            if part not in body and position < len(place) - 1:
                continue
            names.append(part)
            body = body.get(part)
        elif isinstance(body, list) and part.isdigit() and int(part) < len(body):
            names.append(part)
            body = body[int(part)]
        else:
            break
    return names or place[:1]


def _wanted(names: list[str], kind: str, error: Any) -> str:
    limits = {
        "n_epochs": 'Use a whole number from 1 to 1000, or "auto".',
        "batch_size": 'Use a whole number from 1 to 4096, or "auto".',
        "learning_rate_multiplier": 'Use a number above 0, at most 1000, or "auto".',
        "beta": 'Use a number above 0, at most 2, or "auto".',
        "suffix": "A suffix has 1 to 64 characters.",
        "metadata": "Metadata is at most 16 pairs of strings.",
        "seed": "A seed is a whole number from 0 to 2147483647.",
    }
    if names[-1] in limits:
        return limits[names[-1]]
    if names[0] == "metadata":
        return "A key has 1 to 64 characters, a value is a string of at most 512."
    return f"{error['msg']}."
