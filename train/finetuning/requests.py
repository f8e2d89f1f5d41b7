"""The create request: OpenAI's fields, their types and limits, and the errors for everything else.

It checks only the body; `creation` checks that the files and the model exist.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.chat_templates import find_template
from models.errors import Invalid
from models.http.bodies import Metadata, field_path

Auto = Literal["auto"]
HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Hyperparameters(_Body):
    """Hyperparameters of a training, each a value or "auto"."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] | None = None
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] | None = None
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] | None = None


class DpoHyperparameters(Hyperparameters):
    """Hyperparameters of DPO."""

    beta: Auto | Annotated[float, Field(gt=0, le=2)] | None = None


class Supervised(_Body):
    """Supervised fine-tuning."""

    hyperparameters: Hyperparameters | None = None


class Dpo(_Body):
    """Direct preference optimisation."""

    hyperparameters: DpoHyperparameters | None = None


class Method(_Body):
    """The training method."""

    type: Literal["supervised", "dpo"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None


class Wandb(_Body):
    """A Weights & Biases project."""

    project: Annotated[str, Field(min_length=1)]
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class Integration(_Body):
    """Where metrics are sent."""

    type: Literal["wandb"]
    wandb: Wandb


class Extensions(_Body):
    """Parley's own fields, under `parley`."""

    fold_system: bool = Field(
        default=False, description="Fold system messages that the chat template does not support into user turns."
    )
    chat_template: Annotated[str, Field(min_length=1, max_length=2**17)] | None = Field(
        default=None, description="A template's name, such as chatml, or its Jinja text, instead of the base's."
    )


class CreateRequest(_Body):
    """OpenAI's create request, and Parley's extensions."""

    model: Annotated[str, Field(min_length=1)]
    training_file: Annotated[str, Field(min_length=1)]
    validation_file: str | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None
    integrations: list[Integration] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    parley: Extensions | None = None


@dataclass(frozen=True)
class JobRequest:
    """A valid create request. `hyperparameters` has every value or "auto"; beta only for dpo.

    `parley` has the extensions that are set: `fold_system`, and `chat_template` as text.
    """

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int | None = None
    method: Literal["supervised", "dpo"] = "supervised"
    hyperparameters: Mapping[str, int | float | str] = field(default_factory=dict)
    metadata: Mapping[str, str] | None = None
    integrations: tuple[Mapping[str, Any], ...] = ()
    parley: Mapping[str, Any] = field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 in hex, equal for equal requests in any order of fields."""
        values = asdict(self)
        if not self.parley:
            del values["parley"]  # so that the digest is the one of versions without extensions
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def parse(body: Mapping[str, Any]) -> JobRequest:
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
    return JobRequest(
        model=create.model,
        training_file=create.training_file,
        validation_file=create.validation_file or None,
        suffix=create.suffix,
        seed=create.seed,
        method=method,
        hyperparameters=numbers,
        metadata=create.metadata,
        integrations=tuple(integration.model_dump(exclude_none=True) for integration in create.integrations or ()),
        parley=_extensions(create.parley),
    )


def _extensions(given: Extensions | None) -> dict[str, Any]:
    """The extensions that are set. Only the names of templates are looked up, never files of the server."""
    values: dict[str, Any] = {"fold_system": True} if given and given.fold_system else {}
    if given and given.chat_template:
        try:
            values["chat_template"] = find_template(given.chat_template)
        except Invalid as error:
            raise Invalid(error.message, param="parley.chat_template") from error
    return values


def _numbers(create: CreateRequest, method: str) -> dict[str, int | float | str]:
    """The method's hyperparameters or the older top-level ones; "auto" for those in neither."""
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
    conflicts = [name for name, value in older.items() if newer.get(name, value) != value]
    if conflicts:
        raise Invalid(
            f"{conflicts[0]} has different values in `method` and in the old `hyperparameters`: leave the old one out.",
            param=f"hyperparameters.{conflicts[0]}",
        )
    names = (*HYPERPARAMETERS, "beta") if method == "dpo" else HYPERPARAMETERS
    return {name: (older | newer).get(name, "auto") for name in names}


def _given(numbers: Hyperparameters | None) -> dict[str, Any]:
    return numbers.model_dump(exclude_none=True) if numbers else {}


def _refused(error: Any, body: Mapping[str, Any]) -> Invalid:
    """Pydantic's first error in OpenAI's wording."""
    kind = error["type"]
    names = field_path(error, body)
    param = ".".join(names)
    if kind == "missing":
        return Invalid(f"you must provide a {param} parameter", param=param)
    if kind == "extra_forbidden":
        return Invalid(f"Unrecognized request argument supplied: {param}", param=param, code="unknown_parameter")
    value = error.get("input")
    if param == "method.type" and value == "reinforcement":
        return Invalid(
            "Reinforcement fine-tuning is not supported: method.type must be 'supervised' or 'dpo'.", param=param
        )
    expected = _expected(names, kind, error)
    shown = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return Invalid(f"Invalid value for {param}: {shown[:80]}. {expected}", param=param)


def _expected(names: list[str], kind: str, error: Any) -> str:
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
