"""The profile of a model's bot page, `/bot/<model>`."""

from models.spec import BotProfile, ModelSpec

MAX_EXAMPLES = 4


def profile_of(spec: ModelSpec) -> BotProfile:
    """The model's profile; a plain one if its spec has none."""
    return spec.bot or BotProfile(title=spec.id, greeting="Hello! How can I help you?")
