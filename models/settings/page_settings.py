"""The settings and the environment of the page's process, without the keys of upstreams."""

from collections.abc import Mapping

from models.settings.settings import Settings, is_secret_name

# Settings with keys of upstreams, and their other names. The page needs none of them.
_UPSTREAM_KEYS = ("openai_api_key", "together_api_key", "hub_token")


def page_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for the page's process, without the keys of upstreams and secrets of other programs."""
    own = {f"PARLEY_{name.upper()}" for name in Settings.model_fields if name not in _UPSTREAM_KEYS}
    return {name: value for name, value in environment.items() if name in own or not is_secret_name(name)}


def without_upstream_keys(settings: Settings) -> Settings:
    """The same settings without keys of upstreams, which parley.toml may hold."""
    return settings.model_copy(update=dict.fromkeys(_UPSTREAM_KEYS))
