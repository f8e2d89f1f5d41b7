"""The door of the owners' app: a page of ours that takes an owner key and gives a cookie. No Gradio here."""

import asyncio
from html import escape
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ui.access.cookies import OWNER_COOKIE, OWNER_SECONDS, Cookies, Keyring
from ui.look.static_page import plain_page

_LOGGED_IN_AT = "/"


def login_page(message: str = "", after: str = "/", status: int = 200) -> HTMLResponse:
    """The form. `message` says what went wrong, in one line."""
    note = f'<p class="wrong" role="alert">{escape(message)}</p>' if message else ""
    body = f"""
      <h1>Owners’ door</h1>
      <p>Sign in with an owner key to chat, compare, judge and read the leaderboard.</p>
      <form method="post" action="/login">
        <label for="key">Owner key</label>
        <input id="key" name="key" type="password" autocomplete="current-password" placeholder="pk-…"
          required autofocus>
        <input type="hidden" name="after" value="{escape(after, quote=True)}">
        {note}
        <button type="submit">Sign in</button>
      </form>
      <p class="fine">No key? <code>parley keys create NAME --role owner</code> on the server makes one.
      Raters need none: <a href="/vote/">go and vote</a>.</p>"""
    return plain_page("Sign in", body, status=status)


def safe_after(after: str) -> str:
    """Where to go after the sign-in: a path on this page, never another site."""
    parts = urlsplit(after)
    good = after.startswith("/") and not after.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return after if good and "\\" not in after and "\n" not in after else _LOGGED_IN_AT


class Login:
    """GET /login shows the form, POST /login checks the key, /logout forgets it."""

    def __init__(self, cookies: Cookies, keyring: Keyring) -> None:
        self._cookies = cookies
        self._keyring = keyring

    async def answer(self, request: Request) -> Response:
        """The response to any request under /login or /logout."""
        if request.url.path == "/logout":
            if request.method != "POST":
                return RedirectResponse("/login", status_code=303)
            response: Response = RedirectResponse("/login", status_code=303)
            response.delete_cookie(OWNER_COOKIE, path="/")
            return response
        if request.method in ("GET", "HEAD"):
            return login_page(after=safe_after(request.query_params.get("after", "/")))
        if request.method != "POST":
            return Response(status_code=405)
        return await self._sign_in(request)

    async def _sign_in(self, request: Request) -> Response:
        async with request.form(max_files=0, max_fields=4, max_part_size=8192) as form:
            secret, after = str(form.get("key", "")).strip(), safe_after(str(form.get("after", "/")))
        key_id = await asyncio.to_thread(self._keyring.owner_key, secret)
        if key_id is None:
            return login_page("That key does not open this door. It may be revoked, or a client’s key.", after, 401)
        response = RedirectResponse(after, status_code=303)
        response.set_cookie(
            OWNER_COOKIE,
            self._cookies.owner_value(key_id),
            max_age=OWNER_SECONDS,
            path="/",
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return response
