"""JSON bodies that are validated by the same models that describe them in the OpenAPI document."""

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import Invalid
from models.http.payloads import read_json_object

if TYPE_CHECKING:
    from starlette.requests import Request


class Body(BaseModel):
    """An object in a request. Unknown fields are refused, so that a misspelt field is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


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
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"there is no such field; the fields are {', '.join(model.model_fields)}"
        raise Invalid(f"{field}: {message}." if field else f"{message}.", param=field or None) from None
