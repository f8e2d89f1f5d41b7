"""What a reverse proxy reports about a request: believed from trusted proxies only, removed from others."""

from starlette.types import ASGIApp, Receive, Scope, Send

from models.http.proxies import TrustedProxies


class ForwardedHeaders:
    """The ASGI app in front of the page. The apps behind it see the client, host and scheme that the browser used."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._proxies.apply(scope)
        await self._app(scope, receive, send)
