"""Masks personal data and secrets before anything is stored, if the setting `store_masked` is on."""

from dataclasses import replace

from models.chat.personal_data import mask_values
from models.completions.feedback import Feedback
from models.completions.stored_completions import StoredCompletion

# What identifies things, and what only the model's own server can read, stays as it is.
_UNMASKED = frozenset(
    {
        "id", "call_id", "tool_call_id", "item_id", "previous_response_id", "name", "model", "type", "role", "object",
        "status", "finish_reason", "encrypted_content", "prompt_cache_key",
    }
)  # fmt: skip


def mask_completion(completion: StoredCompletion) -> StoredCompletion:
    """A completion with the personal data in its request, answer and metadata replaced by placeholders."""
    request, _ = mask_values(dict(completion.request), _UNMASKED)
    answer, _ = mask_values(dict(completion.answer), _UNMASKED)
    metadata, _ = mask_values(dict(completion.metadata))
    return replace(completion, request=request, answer=answer, metadata=metadata)


def mask_feedback(feedback: Feedback) -> Feedback:
    """Feedback with the personal data in its texts replaced by placeholders."""
    value, correction, comment = (
        mask_values(each)[0] for each in (feedback.value, feedback.correction, feedback.comment)
    )
    return replace(feedback, value=value, correction=correction, comment=comment)
