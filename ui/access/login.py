"""The sign-in page of the owners' app: it takes an owner's key and sets a cookie. No Gradio."""

import asyncio
from html import escape
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ui.access.cookies import OWNER_COOKIE, OWNER_SECONDS, Cookies, Keyring, cookie_attributes
from ui.access.openid import OPENID_PATH
from ui.look.static_page import static_page

_HOME = "/"


def login_page(message: str = "", after: str = "/", status: int = 200, *, openid: bool = False) -> HTMLResponse:
    """The sign-in form. `message` is one line about what went wrong; `openid`: managers may sign in at a provider."""
    others = "<p class='fine'>Do you manage or view a campaign? " if openid else ""
    others += f"<a href='{OPENID_PATH}'>Sign in with your organization</a>.</p>" if openid else ""
    note = f'<p class="wrong" role="alert">{escape(message)}</p>' if message else ""
    body = f"""
      <h1>Sign in</h1>
      <p>Chat with models, compare them, train new ones and see the leaderboard. You need an owner’s key.</p>
      <form method="post" action="/login">
        <label for="key">Owner key</label>
        <input id="key" name="key" type="password" autocomplete="current-password" placeholder="pk-…"
          required autofocus>
        <input type="hidden" name="after" value="{escape(after, quote=True)}">
        {note}
        <button type="submit">Sign in</button>
      </form>
      <p class="fine">No key? Create one on the server: <code>parley keys create NAME --role owner</code>.
      Raters need no key: <a href="/vote/">vote here</a>.</p>{others}"""
    return static_page("Sign in", body, status=status)


def safe_redirect(after: str) -> str:
    """Where to go after signing in: a path on this page, never another site."""
    try:
        parts = urlsplit(after)
    except ValueError:  # such as http://[
        return _HOME
    good = after.startswith("/") and not after.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return after if good and "\\" not in after and "\n" not in after else _HOME


class Login:
    """GET /login shows the form, POST /login checks the key, POST /logout deletes the cookie."""

    def __init__(self, cookies: Cookies, keyring: Keyring, *, openid: bool = False) -> None:
        self._openid = openid
        self._cookies = cookies
        self._keyring = keyring

    async def respond(self, request: Request) -> Response:
        """The response to a request for /login or /logout."""
        if request.url.path == "/logout":
            if request.method != "POST":
                return RedirectResponse("/login", status_code=303)
            response: Response = RedirectResponse("/login", status_code=303)
            response.delete_cookie(OWNER_COOKIE, path="/")
            return response
        if request.method in ("GET", "HEAD"):
            return login_page(after=safe_redirect(request.query_params.get("after", "/")), openid=self._openid)
        if request.method != "POST":
            return Response(status_code=405)
        return await self._sign_in(request)

    async def _sign_in(self, request: Request) -> Response:
        async with request.form(max_files=0, max_fields=4, max_part_size=8192) as form:
            secret, after = str(form.get("key", "")).strip(), safe_redirect(str(form.get("after", "/")))
        key_id = await asyncio.to_thread(self._keyring.owner_key, secret)
        if key_id is None:
            wrong = "This is not an owner’s key. It may be revoked, or a key for clients."
            return login_page(wrong, after, 401, openid=self._openid)
        response = RedirectResponse(after, status_code=303)
        cookie = self._cookies.owner_value(key_id)
        response.set_cookie(OWNER_COOKIE, cookie, **cookie_attributes(request, "/", OWNER_SECONDS))
        return response
