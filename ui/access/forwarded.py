"""The X-Forwarded-* headers of reverse proxies: applied if the proxy is trusted, removed in any case."""

from starlette.types import ASGIApp, Receive, Scope, Send

from models.http.proxies import TrustedProxies


class ForwardedHeaders:
    """ASGI middleware in front of the page. The apps behind it see the browser's address, host and scheme."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._proxies.apply(scope)
        await self._app(scope, receive, send)
