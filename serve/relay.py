"""One request on its way to a model and back: bytes are copied, and read only to route and to count.

A stream that breaks says so in an error frame and never ends as if it were whole; nothing is asked twice once the
first byte of an answer is there. When the client goes, the upstream's request goes too.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson

from models.database import Database
from models.errors import Busy, Invalid, NotFound, ParleyError, TooLarge, Unavailable
from models.settings import Settings
from serve import fields, replies, states
from serve.frames import Frames
from serve.metrics import Metrics
from serve.replies import Exchange, Receive, Scope
from serve.snapshot import Route, Watcher
from serve.upstreams import Answer, Upstreams
from serve.wire import Pool

_CONNECT_S = 5.0
_IDLE_S = 15.0
_LISTEN_AFTER_S = 0.1  # most answers begin sooner; nobody has to be told within less that a client has gone
_DEMAND_EVERY_S = 5.0
_PASSED_ON = frozenset({b"retry-after", b"retry-after-ms", b"x-should-retry"})
_JSON_REQUEST = {"content-type": "application/json", "accept-encoding": "identity"}


@dataclass(frozen=True)
class Asked:
    """A request as it will be sent: `body` in bytes, what it wants of a stream, and whom it is for."""

    path: str
    route: Route
    body: bytes
    stream: bool
    hide_usage: bool


class Relay:
    """Sends requests to engines and upstreams. One for each gateway; `open` and `close` with its process."""

    def __init__(self, settings: Settings, database: Database, watcher: Watcher, metrics: Metrics) -> None:
        self._settings = settings
        self._database = database
        self._watcher = watcher
        self._metrics = metrics
        self._limit = int(settings.max_body_mib * 2**20)
        self._waiting: dict[str, int] = {}
        self._demanded: dict[str, float] = {}
        silence_s = settings.upstream_timeout_s
        # An engine's own idle connections live longer (its keep-alive is in serve.engines), so ours end first.
        self._engines = Pool(connect_s=_CONNECT_S, silence_s=silence_s, idle_s=_IDLE_S)
        self._hosted = Upstreams(connect_s=_CONNECT_S, silence_s=silence_s)

    async def open(self) -> None:
        """Makes the connection pools."""
        self._engines.open()
        self._hosted.open()

    async def close(self) -> None:
        """Closes the pools."""
        self._engines.close()
        await self._hosted.close()

    async def answer(self, scope: Scope, receive: Receive, exchange: Exchange) -> str:
        """Answers one request; returns the model's id, for the figures.

        Raises:
            ParleyError: before the answer has begun; after that the error is in the stream.
        """
        body = await read_body(scope, receive, self._limit)
        asked = self._understand(scope["path"], body)
        asked = await self._runnable(asked, receive)
        work = asyncio.current_task()
        assert work is not None
        listener: asyncio.Future[object] | None = None

        def left(_: object) -> None:
            if not exchange.finished:
                work.cancel()

        def listen() -> None:
            nonlocal listener
            listener = asyncio.ensure_future(receive())
            listener.add_done_callback(left)

        # uvicorn says nothing to a writer whose reader has gone, so somebody has to listen, once an answer takes time.
        later = asyncio.get_running_loop().call_later(_LISTEN_AFTER_S, listen)
        try:
            await self._forward(asked, exchange)
        finally:
            later.cancel()
            if listener is not None:
                listener.remove_done_callback(left)
                listener.cancel()
        return asked.route.spec.id

    def _understand(self, path: str, body: bytes) -> Asked:
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Invalid(f"The body is not valid JSON: {error}.") from error
        if not isinstance(content, dict):
            raise Invalid("The body must be a JSON object.")
        name = content.get("model")
        if not isinstance(name, str) or not name:
            raise Invalid("You must provide a model parameter.", param="model")
        route = self._watcher.current.routes.get(name)
        if route is None:
            raise NotFound(f"The model {name!r} does not exist.", code="model_not_found", param="model")
        fields.check(content)
        sent = content
        if not route.hosted:
            fields.check_media(content)
            sent = fields.for_engine(path, content)
        if route.renamed:
            sent = {**sent, "model": route.model}
        stream = content.get("stream") is True
        options = content.get("stream_options")
        wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        if stream and not wants_usage:
            kept = options if isinstance(options, dict) and route.hosted else {}
            sent = {**sent, "stream_options": {**kept, "include_usage": True}}
        elif stream and not route.hosted and options != {"include_usage": True}:
            sent = {**sent, "stream_options": {"include_usage": True}}
        elif not stream and "stream_options" in sent:
            sent = {key: value for key, value in sent.items() if key != "stream_options"}
        try:
            written = body if sent is content else orjson.dumps(sent)
        except orjson.JSONEncodeError as error:
            # It reads deeper than it writes.
            raise Invalid("The body is nested too deeply.") from error
        return Asked(
            path=path,
            route=route,
            body=written,
            stream=stream,
            hide_usage=not wants_usage,
        )

    async def _runnable(self, asked: Asked, receive: Receive) -> Asked:
        """The same request, once its model runs: waits for one that starts, in a queue with an end."""
        if asked.route.address is not None:
            return asked
        name = asked.route.spec.id
        self._ask_for(name)
        if asked.route.state.state == "failed":
            raise Unavailable(f"The model {name!r} does not run: {asked.route.state.message}", retry_after=30)
        if self._waiting.get(name, 0) >= self._settings.queue_size:
            raise Busy(f"Too many requests wait for {name!r} to start. Try again later.", retry_after=5)
        self._waiting[name] = self._waiting.get(name, 0) + 1
        self._metrics.waiting.inc()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.queue_wait_s
        gone = asyncio.ensure_future(receive())
        try:
            while not gone.done():
                left = deadline - loop.time()
                if left <= 0:
                    raise Unavailable(f"The model {name!r} is starting. Try again in a moment.", retry_after=5)
                await self._watcher.changed(min(left, 1.0))
                route = self._watcher.current.routes.get(name)
                if route is None:
                    raise NotFound(f"The model {name!r} is gone.", code="model_not_found", param="model")
                if route.address is not None:
                    return Asked(asked.path, route, asked.body, asked.stream, asked.hide_usage)
                if route.state.state == "failed":
                    raise Unavailable(f"The model {name!r} does not run: {route.state.message}", retry_after=30)
            raise ClientGone
        finally:
            gone.cancel()
            self._metrics.waiting.dec()
            self._waiting[name] -= 1

    def _ask_for(self, name: str) -> None:
        """Leaves the supervisor a note, every few seconds at the most, and does not wait until it is written."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._demanded.get(name, -_DEMAND_EVERY_S) < _DEMAND_EVERY_S:
            return
        self._demanded[name] = loop.time()
        loop.run_in_executor(None, _note_demand, self._database, name)

    async def _forward(self, asked: Asked, exchange: Exchange) -> None:
        route = asked.route
        if route.hosted and route.authorization is None and route.spec.upstream and route.spec.upstream.credential:
            raise Unavailable(
                f"The upstream of {route.spec.id!r} needs a key: set {route.spec.upstream.credential} "
                "where Parley is started."
            )
        headers = _JSON_REQUEST
        if route.authorization:
            headers = {**headers, "authorization": route.authorization}
        address = f"{route.address}{asked.path.removeprefix('/v1')}"
        ask = self._hosted.post if route.hosted else self._engines.post
        try:
            answer: Answer = await ask(address, asked.body, headers)
        except TimeoutError as error:
            raise self._fault(route, "timeout", "did not answer in time") from error
        except OSError as error:
            raise self._fault(route, "connect", "cannot be reached") from error
        async with answer:
            if answer.status >= 300:
                await self._refused(asked, answer, exchange)
            elif answer.header(b"content-type").startswith(b"text/event-stream"):
                await self._stream(asked, answer, exchange)
            else:
                await self._whole(asked, answer, exchange)

    async def _whole(self, asked: Asked, answer: Answer, exchange: Exchange) -> None:
        try:
            data = await answer.read()
        except TimeoutError as error:
            raise self._fault(asked.route, "timeout", "did not answer in time") from error
        except OSError as error:
            raise self._fault(asked.route, "broken", "broke off its answer") from error
        await exchange.whole(answer.status, data)
        # The tail is enough to find the usage in, but its place is not ours to rely on.
        try:
            self._count(asked.route, orjson.loads(data).get("usage"))
        except (orjson.JSONDecodeError, AttributeError):
            return

    async def _stream(self, asked: Asked, answer: Answer, exchange: Exchange) -> None:
        frames = Frames(hide_usage=asked.hide_usage)
        model = asked.route.spec.id
        first: float | None = None
        await exchange.start(200, replies.EVENTS, [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")])
        fault: ParleyError | None = None
        try:
            while piece := await answer.piece():
                out = frames.feed(piece)
                if out:
                    if first is None:
                        first = exchange.seconds()
                    await exchange.body(out, more=True)
        except TimeoutError:
            fault = self._fault(asked.route, "timeout", "fell silent in the middle of its answer")
        except OSError:
            fault = self._fault(asked.route, "broken", "broke off in the middle of its answer")
        if fault is None and frames.error is not None:
            self._metrics.failed(model, "broken")
            await exchange.body(replies.error_frame(replies.openai_error(frames.error, 500)))
        elif fault is None and frames.whole:
            await exchange.body(b"")
        else:
            fault = fault or self._fault(asked.route, "broken", "broke off in the middle of its answer")
            await exchange.body(replies.error_frame(fault.body()["error"]))
        self._count(asked.route, frames.usage)
        if first is not None:
            self._metrics.streamed(model, first, exchange.seconds() - first, _tokens(frames.usage, "completion_tokens"))

    async def _refused(self, asked: Asked, answer: Answer, exchange: Exchange) -> None:
        """Passes an error on in OpenAI's shape. What an upstream says of our key is not for the client."""
        route, status = asked.route, answer.status
        try:
            data = await answer.read()
        except OSError:
            data = b""
        if status >= 500:
            self._metrics.failed(route.spec.id, str(status))
        if status < 400:
            self._metrics.failed(route.spec.id, str(status))
            raise BadUpstream(f"The server of {route.spec.id!r} sends elsewhere (status {status}): mend its address.")
        if status in (401, 403):
            self._metrics.failed(route.spec.id, str(status))
            who = route.spec.upstream.credential if route.spec.upstream else None
            raise BadUpstream(
                f"The server of {route.spec.id!r} refuses Parley's key" + (f": check {who}." if who else ".")
            )
        try:
            content = orjson.loads(data)
        except orjson.JSONDecodeError:
            content = None
        extra = [
            (name, value) for name, value in answer.headers if name in _PASSED_ON or name.startswith(b"x-ratelimit-")
        ]
        body = orjson.dumps({"error": replies.openai_error(content, status)})
        await exchange.whole(status, body, extra=extra)

    def _count(self, route: Route, usage: Any) -> None:
        prompt, completion = _tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens")
        if prompt or completion:
            self._metrics.used(route.spec.id, prompt, completion)

    def _fault(self, route: Route, how: str, words: str) -> ParleyError:
        self._metrics.failed(route.spec.id, how)
        return Unavailable(f"The server of {route.spec.id!r} {words}.", code="upstream_error", retry_after=1)


class ClientGone(Exception):
    """The client closed the connection: there is nobody to answer."""


class BadUpstream(ParleyError):
    """An upstream that cannot be used as it is set up. A repeat cannot help."""

    status = 502


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """A request's whole body.

    Raises:
        TooLarge: it has more than `limit` bytes, or says so. ClientGone: it never came to its end.
    """
    said = replies.header(scope, b"content-length")
    if said is not None and said.isdigit() and int(said) > limit:
        raise too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body = message.get("body", b"")
        pieces = [body]
    else:
        pieces, size = [], 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > limit:
                break
            if not message.get("more_body"):
                break
            message = await receive()
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(body) > limit:
        raise too_large(limit)
    return body


def _tokens(usage: Any, name: str) -> int:
    """A count out of a server's `usage`; 0 where it has none that makes sense."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def too_large(limit: int) -> TooLarge:
    """The 413 for a body of more bytes than the operator allows."""
    return TooLarge(f"The body is over the limit of {limit} bytes: the operator sets it as max_body_mib.")


def _note_demand(database: Database, name: str) -> None:
    try:
        states.demand(database, name)
    except ParleyError:
        return
