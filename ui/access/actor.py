"""The actor of a change made on the page, for the audit log: the owner whose cookie the event carries."""

from collections.abc import Callable

from models.audit import Actor
from ui.access.cookies import Cookies, Keyring


def page_actor(cookies: Cookies, keyring: Keyring) -> Callable[[], Actor]:
    """A function that returns the actor of the Gradio event that is being handled."""

    def actor() -> Actor:
        from gradio.context import LocalContext

        request = LocalContext.request.get(None)
        if request is None:
            return Actor("page")
        key_id = cookies.owner_key_id(str(request.headers.get("cookie", "")))
        address = request.client.host if request.client else ""
        return Actor(keyring.owner_name(key_id) or "page", address, key_id)

    return actor
