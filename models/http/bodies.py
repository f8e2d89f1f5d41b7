"""JSON bodies that are validated by the same models that describe them in the OpenAPI document."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import Invalid
from models.http.payloads import read_json_object

if TYPE_CHECKING:
    from starlette.requests import Request


class Body(BaseModel):
    """An object in a request. Unknown fields are refused, so that a misspelt field is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


_MetadataName = Annotated[str, Field(min_length=1, max_length=64)]
_MetadataValue = Annotated[str, Field(max_length=512)]
# OpenAI's metadata of a job, an eval, a run or a completion.
Metadata = Annotated[dict[_MetadataName, _MetadataValue], Field(max_length=16)]
_Model = TypeVar("_Model", bound=Body)


async def read_body(request: "Request", model: type[_Model]) -> _Model:
    """The request's body as a `model`.

    Raises:
        Invalid: the body is not valid; the message names the first invalid field.
    """
    content = await read_json_object(request)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = _first(error.errors(), content)
        field = ".".join(field_path(first, content))
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"there is no such field; the fields are {', '.join(model.model_fields)}"
        raise Invalid(f"{field}: {message}." if field else f"{message}.", param=field or None) from None


def field_path(error: Any, body: Any) -> list[str]:
    """The field of a pydantic error, without the names of a union's branches ('constrained-int', …) in its place."""
    place = [str(part) for part in error["loc"]]
    names: list[str] = []
    for position, part in enumerate(place):
        if isinstance(body, Mapping):
            missing = error["type"] == "missing" and position == len(place) - 1
            if part in body or missing:
                names.append(part)
                body = body.get(part)
        elif isinstance(body, list) and part.isdigit() and int(part) < len(body):
            names.append(part)
            body = body[int(part)]
        else:
            break
    return names or place[:1]


def _first(errors: Sequence[Any], body: Any) -> Any:
    """The first field's error; of a union's errors, one of the branch that has the value's type."""
    field = errors[0]["loc"][:1]
    same = [error for error in errors if error["loc"][:1] == field]
    return max(same, key=lambda error: (len(field_path(error, body)), not error["type"].endswith("_type")))
