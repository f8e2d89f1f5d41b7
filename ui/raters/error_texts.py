"""The text that a rater reads about an error. It never quotes the error, because that could name a model."""

from collections.abc import Mapping

from models.errors import Conflict, Forbidden, Invalid, NotFound, ParleyError, Unavailable

_BY_CODE = (
    "not_open", "closed", "finished", "nothing_left", "voted", "skipped", "revealed", "too_many", "too_fast",
    "no_cookie", "no_undo", "gone", "invited_only",
)  # fmt: skip


def error_key(error: BaseException, *, own_questions: bool = False) -> str:
    """The key of the error's text. `own_questions`: the rater may ask one instead of waiting for stored ones."""
    code = error.code if isinstance(error, ParleyError) else None
    if code in _BY_CODE:
        return f"error_{code}"
    match error:
        case Invalid(param="prompt"):
            return "error_prompt"
        case Invalid(param="models"):
            return "error_empty"
        case Invalid():
            return "error_invalid"
        case NotFound():
            return "error_no_prompts_own" if own_questions else "error_no_prompts"
        case Unavailable():
            return "error_unavailable"
        case Forbidden():
            return "error_invited_only"
        case Conflict():
            return "error_gone"
        case _:
            return "error_other"


def error_body(error: BaseException, texts: Mapping[str, str], *, own_questions: bool = False) -> dict[str, object]:
    """The JSON of a failed request: a code and a sentence in the campaign's language."""
    key = error_key(error, own_questions=own_questions)
    body: dict[str, object] = {"code": key.removeprefix("error_"), "message": texts[key]}
    if isinstance(error, ParleyError) and error.retry_after:
        body["retry_after"] = error.retry_after
    return {"error": body}


def status_of(error: BaseException) -> int:
    """The HTTP status of an error."""
    return error.status if isinstance(error, ParleyError) else 500
