"""Adds a trained model to the open vote, and turns votes into preference pairs for training."""

import json
from html import escape

from evals.campaigns.campaign import OPEN
from evals.campaigns.lifecycle import add_model
from evals.votes.preference_pairs import openai_preferences
from models.database import utcnow
from models.errors import Invalid
from models.files.stored_files import Files, StoredFile
from ui.backend.context import PageContext
from ui.backend.uploads import TRAINING_PURPOSE


def put_to_vote(context: PageContext, model: str) -> str:
    """Adds a model and the one it was trained from to the open vote; returns a sentence with a link, as HTML.

    Raises:
        NotFound: there is no such model.
    """
    spec = context.registry.resolve(model)
    trained_from = spec.parent or spec.base
    if trained_from:
        add_model(context.database, OPEN, trained_from)
    campaign = add_model(context.database, OPEN, spec.id)
    others = ", ".join(name for name in campaign.models if name != spec.id) or "no other model yet"
    return (
        f"<p class='lead' role='status'><b>{escape(spec.id)}</b> is in the open vote, with {escape(others)}. "
        "<a href='/vote/' target='_blank'>Vote ↗</a></p>"
    )


def store_votes_as_pairs(context: PageContext) -> tuple[StoredFile, int]:
    """Stores the decisive votes as a file of preference pairs for DPO; returns the file and its number of pairs.

    Raises:
        Invalid: no vote can be used.
    """
    rows = openai_preferences(context.database)
    if not rows:
        raise Invalid(
            "No votes can be used yet: collect votes until most raters of a pair prefer one answer. Held-out prompts "
            "do not count."
        )
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    name = f"votes-{utcnow():%Y-%m-%d}.jsonl"
    return Files(context.settings, context.database).store(name, content, TRAINING_PURPOSE), len(rows)
