"""Folds system messages into user turns if the model's chat template does not support them, as in its training.

It uses the plan of training (`models.chat.system_messages`), for each route that takes a conversation.
"""

from typing import Any

from models.chat.system_messages import Folding, fold_dicts

_LEADING = {"/v1/responses": "instructions", "/v1/messages": "system", "/v1/messages/count_tokens": "system"}


def fold_system_messages(path: str, body: dict[str, Any], folding: Folding) -> dict[str, Any]:
    """The body with its system messages folded; the same object if there is nothing to fold."""
    field = "input" if path == "/v1/responses" else "messages"
    messages, name = body.get(field), _LEADING.get(path, "")
    if path == "/v1/responses" and isinstance(messages, str) and body.get(name):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list):
        return body
    leading = [{"role": "system", "content": body[name]}] if body.get(name) else []
    whole = [*leading, *messages]
    folded = fold_dicts(whole, folding, "input_text" if path == "/v1/responses" else "text")
    if folded is whole:
        return body
    if leading and folding == "all":
        return {key: value for key, value in body.items() if key != name} | {field: folded}
    return body | {field: folded[len(leading) :]}
