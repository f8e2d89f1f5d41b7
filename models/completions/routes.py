"""The routes of stored chat completions, in OpenAI's format, and `/v1/feedback`. Light to import.

Client keys may use them too: they can read and change the completions that they stored, and send feedback on any
answer.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models.completions.feedback import Feedback, StoredFeedback, add_feedback, list_feedback
from models.completions.masking import mask_feedback
from models.completions.operations import OPERATIONS, CompletionUpdate, FeedbackCreate
from models.completions.stored_completions import MAX_LISTED, CompletionFilter, StoredCompletion, StoredCompletions
from models.database import Database
from models.errors import Forbidden, Invalid, NotFound
from models.http.bodies import read_body
from models.http.operations import attach_operations
from models.http.payloads import json_response, list_page, query_integer, run_in_thread

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

# Fields of the request that OpenAI repeats in the stored object, with their defaults.
REPEATED_OPTIONS: Mapping[str, Any] = {
    "tool_choice": None, "seed": None, "top_p": 1.0, "temperature": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0, "tools": None, "response_format": None,
}  # fmt: skip


def completion_routes(database: Database) -> "list[Route]":
    """The routes of stored completions and of feedback."""
    from starlette.routing import Route

    completions, feedback = _CompletionRoutes(StoredCompletions(database)), _FeedbackRoutes(database)
    path = "/v1/chat/completions"
    routes = [
        Route(path, completions.page, methods=["GET"]),
        Route(f"{path}/{{completion_id}}", completions.retrieve, methods=["GET"]),
        Route(f"{path}/{{completion_id}}", completions.update, methods=["POST"]),
        Route(f"{path}/{{completion_id}}", completions.delete, methods=["DELETE"]),
        Route(f"{path}/{{completion_id}}/messages", completions.messages, methods=["GET"]),
        Route("/v1/feedback", feedback.create, methods=["POST"]),
        Route("/v1/feedback", feedback.page, methods=["GET"]),
    ]
    return attach_operations(routes, OPERATIONS)


class _CompletionRoutes:
    """`/v1/chat/completions` except POST, which the gateway itself handles."""

    def __init__(self, completions: StoredCompletions) -> None:
        self._completions = completions

    async def page(self, request: "Request") -> "Response":
        query = request.query_params
        metadata = {
            name[9:-1]: value for name, value in query.items() if name.startswith("metadata[") and name.endswith("]")
        }
        chosen = CompletionFilter(query.get("model") or None, metadata, kind="completion")
        found, has_more = await run_in_thread(
            self._completions.page, chosen, request.state.key,
            after=query.get("after") or None, limit=query_integer(query, "limit", 20, least=1, most=MAX_LISTED),
            order=query.get("order") or "asc",
        )  # fmt: skip
        return json_response(list_page([completion_to_json(each) for each in found], has_more=has_more))

    async def retrieve(self, request: "Request") -> "Response":
        return json_response(completion_to_json(await self._get(request)))

    async def update(self, request: "Request") -> "Response":
        body = await read_body(request, CompletionUpdate)
        completion_id = request.path_params["completion_id"]
        changed = await run_in_thread(
            self._completions.set_metadata, completion_id, body.metadata or {}, request.state.key, "completion"
        )
        return json_response(completion_to_json(changed))

    async def delete(self, request: "Request") -> "Response":
        completion_id = request.path_params["completion_id"]
        await run_in_thread(self._completions.delete, completion_id, request.state.key, "completion")
        return json_response({"id": completion_id, "object": "chat.completion.deleted", "deleted": True})

    async def messages(self, request: "Request") -> "Response":
        query = request.query_params
        messages = stored_messages(await self._get(request))
        order = query.get("order") or "asc"
        if order not in ("asc", "desc"):
            raise Invalid(f"order must be asc or desc, not {order[:20]!r}.", param="order")
        if order == "desc":
            messages.reverse()
        if after := query.get("after"):
            messages = _following(messages, after)
        limit = query_integer(query, "limit", 20, least=1, most=MAX_LISTED)
        return json_response(list_page(messages[:limit], has_more=len(messages) > limit))

    async def _get(self, request: "Request") -> StoredCompletion:
        completion_id = request.path_params["completion_id"]
        return await run_in_thread(self._completions.get, completion_id, request.state.key, "completion")


class _FeedbackRoutes:
    """`/v1/feedback`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, request: "Request") -> "Response":
        body = await read_body(request, FeedbackCreate)
        if body.value is None and body.correction is None and body.comment is None:
            raise Invalid("Feedback needs a value, a correction or a comment.", param="value")
        feedback = Feedback(
            body.id, body.name, body.value, body.correction, body.comment, body.source.kind, body.source.id
        )
        if request.state.settings.store_masked:
            feedback = await run_in_thread(mask_feedback, feedback)
        stored = await run_in_thread(add_feedback, self._database, feedback, request.state.key, body.idempotency_key)
        return json_response(feedback_to_json(stored))

    async def page(self, request: "Request") -> "Response":
        key, query = request.state.key, request.query_params
        if key is not None and key.role != "owner":
            raise Forbidden("Listing feedback needs an owner's key.")
        found, has_more = await run_in_thread(
            list_feedback, self._database, query.get("id") or None, after=query.get("after") or None,
            limit=query_integer(query, "limit", MAX_LISTED, least=1, most=MAX_LISTED),
        )  # fmt: skip
        return json_response(list_page([feedback_to_json(each) for each in found], has_more=has_more))


def completion_to_json(completion: StoredCompletion) -> dict[str, Any]:
    """A stored completion in OpenAI's format: the answer, and the options of the request."""
    request = completion.request
    return {
        **completion.answer,
        "id": completion.id,
        "object": "chat.completion",
        "model": completion.model,
        "request_id": completion.request_id,
        **{name: default if request.get(name) is None else request[name] for name, default in REPEATED_OPTIONS.items()},
        "input_user": request.get("user"),
        "service_tier": completion.answer.get("service_tier") or "default",
        "metadata": dict(completion.metadata),
    }


def stored_messages(completion: StoredCompletion) -> list[dict[str, Any]]:
    """The messages of the request in OpenAI's format. If the content has parts, `content_parts` has them, and `content`
    their text.
    """
    messages = []
    for number, message in enumerate(completion.request.get("messages") or ()):
        content = message.get("content")
        parts = content if isinstance(content, list) else None
        if parts is not None:
            content = "".join(part.get("text") or "" for part in parts if isinstance(part, Mapping)) or None
        own = {"id": f"{completion.id}-{number}", "content": content, "content_parts": parts}
        messages.append({"name": None, **message, **own})
    return messages


def feedback_to_json(stored: StoredFeedback) -> dict[str, Any]:
    """Feedback in the API's format."""
    feedback = stored.feedback
    return {
        "id": stored.id,
        "object": "feedback",
        "created_at": int(stored.created.timestamp()),
        "answer_id": feedback.answer_id,
        "name": feedback.name,
        "value": feedback.value,
        "correction": feedback.correction,
        "comment": feedback.comment,
        "source": {"kind": feedback.source_kind, "id": feedback.source_id},
    }


def _following(messages: Sequence[dict[str, Any]], after: str) -> list[dict[str, Any]]:
    for number, message in enumerate(messages):
        if message["id"] == after:
            return list(messages[number + 1 :])
    raise NotFound(f"There is no message {after[:80]!r}.", param="after")
