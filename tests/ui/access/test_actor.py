"""The actor of a change on the page: the owner whose cookie the Gradio event carries."""

import gradio as gr
from gradio.context import LocalContext
from starlette.requests import Request

from models.audit import Actor
from models.database import Database
from models.keys import create_key, list_keys, revoke_key
from ui.access.actor import page_actor
from ui.access.cookies import OWNER_COOKIE, Cookies, Keyring


def test_an_owner_is_named_and_others_are_the_page(database: Database) -> None:
    create_key(database, name="boss", role="owner")
    (key,) = list_keys(database)
    cookies = Cookies("a" * 40)
    actor = page_actor(cookies, Keyring(database, clock=iter(range(0, 1000, 10)).__next__))
    assert actor() == Actor("page")
    header = f"{OWNER_COOKIE}={cookies.owner_value(key.id)}".encode()
    scope = {"type": "http", "headers": [(b"cookie", header)], "client": ("10.0.0.7", 1)}
    token = LocalContext.request.set(gr.Request(Request(scope)))
    try:
        assert actor() == Actor("boss", "10.0.0.7", key.id)
        revoke_key(database, key.id)
        assert actor().name == "page"
    finally:
        LocalContext.request.reset(token)
