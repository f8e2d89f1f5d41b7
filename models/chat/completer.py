"""A Completer over HTTP, with the OpenAI SDK."""

import asyncio
import functools
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.chat.messages import Completion, Message, Token, as_dicts
from models.errors import (
    MODEL_STARTING,
    NOT_CONNECTED,
    Busy,
    Invalid,
    NotFound,
    ParleyError,
    Unauthorized,
    Unavailable,
    retry_delay,
)
from models.home.instance import find_gateway, gateway_tls
from models.settings.settings import Settings

if TYPE_CHECKING:
    import openai

ANSWERED_BY = "x-parley-model"  # the gateway's header: the model that answered, which may be a fallback
_MOST_TOKENS, _REASON_LIMIT = 2**31 - 1, 64  # as the tables have them
_STARTING_DELAY_S = 1.0
_NO_ANSWER = "The server's answer is not a chat completion. Is this an OpenAI-compatible address?"


@dataclass(frozen=True)
class StartPatience:
    """How long requests wait for a model whose engine is starting, and for a server that cannot be reached.

    `limit_s`: seconds for one request, including its time in the gateway's queue. `report`: called with a line each
    time the gateway answers that the model is still starting, with the default settings at most every half minute. An
    exception that it raises ends the request. `reconnect_s`: seconds that all requests together wait for a connection,
    for example while a gateway restarts.
    """

    limit_s: float
    report: Callable[[str], None] = lambda _: None
    reconnect_s: float = 30.0


@dataclass(frozen=True)
class ServerAnswer:
    """A server's JSON. `model` is the model that answered; None where the server does not say."""

    json: object
    model: str | None = None


@functools.cache
def _machine_authorities() -> ssl.SSLContext:
    """The machine's certificate authorities. Cached, because loading them takes 25 ms of CPU for each SDK client."""
    return ssl.create_default_context()


class GatewayCompleter:
    """A model at an OpenAI-compatible address. Implements the `Completer` protocol and can stream.

    `tls`: the certificates to trust instead of the machine's certificate authorities.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        retries: int = 2,
        *,
        many: bool = False,
        patience: StartPatience | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient

        self.model = model
        self._patience, self._retries = patience, retries
        self._unreachable_since: float | None = None
        if patience is not None:
            retries = 0  # `send` retries: the SDK would count a starting engine as failures
        # For many concurrent requests: the SDK's aiohttp transport takes two thirds of the CPU per request.
        client = DefaultAioHttpClient if many else DefaultAsyncHttpxClient
        transport = client(verify=tls or _machine_authorities())
        # The SDK requires a key; a server without keys ignores it.
        key = api_key or "no-key"
        self._client = AsyncOpenAI(
            base_url=base_url, api_key=key, timeout=timeout_s, max_retries=retries, http_client=transport
        )
        self._base_url, self._timeout_s = base_url.rstrip("/"), timeout_s
        # Without retries the transport is used directly: see `_send_over`.
        self._bare = transport if many and retries == 0 else None
        own = {name: value for name, value in self._client.default_headers.items() if isinstance(value, str)}
        self._headers = own | {"Authorization": f"Bearer {key}"}

    async def __call__(self, messages: Sequence[Message], **options: Any) -> Completion:
        """The whole answer."""
        began = time.perf_counter()
        # `extra_body` has fields unknown to the SDK, as in the SDK's own call.
        more = options.pop("extra_body", None) or {}
        body = {"model": self.model, "messages": as_dicts(messages), **options, **more}
        answer = await self.post("/chat/completions", body)
        return read_completion(answer, time.perf_counter() - began)

    async def post(self, path: str, body: Mapping[str, Any]) -> object:
        """Sends a body to `path` (below /v1, with a leading slash); returns the server's JSON. Raises as `send`."""
        return (await self.send(path, body)).json

    async def send(self, path: str, body: Mapping[str, Any]) -> ServerAnswer:
        """As `post`, with the model that answered, which only a completer without retries learns.

        Raises:
            ParleyError: the SDK's error, translated; Unavailable if the response is not JSON.
        """
        if self._patience is None:
            return await self._send_once(path, body)
        began, failures = time.monotonic(), 0
        while True:
            try:
                answer = await self._send_once(path, body)
            except (Busy, Unavailable) as error:
                delay = retry_delay(error, failures)
                if error.code == NOT_CONNECTED and self._may_reconnect(self._patience):
                    self._patience.report(f"waiting for {self.model}: its server cannot be reached")
                elif error.code == MODEL_STARTING and time.monotonic() - began < self._patience.limit_s:
                    self._patience.report(f"waiting for {self.model}: its engine is starting")
                    if isinstance(error, Unavailable):  # the request has already waited in the gateway's queue
                        delay = _STARTING_DELAY_S
                elif failures < self._retries and (delay is not None or isinstance(error, Unavailable)):
                    failures += 1
                else:
                    raise
            else:
                self._unreachable_since = None
                return answer
            await asyncio.sleep(failures if delay is None else delay)

    def _may_reconnect(self, patience: StartPatience) -> bool:
        """Whether to wait for a server that refused a connection. After `reconnect_s`, no request waits until the
        server answers again.
        """
        now = time.monotonic()
        if self._unreachable_since is None:
            self._unreachable_since = now
        return now - self._unreachable_since < patience.reconnect_s

    async def _send_once(self, path: str, body: Mapping[str, Any]) -> ServerAnswer:
        import openai

        try:
            # chat.completions.create() would spend half of a request's CPU on objects that are not needed here. This
            # is the same request, with the SDK's errors and retries.
            if self._bare is not None:
                return await self._send_over(self._bare, path, body)
            return ServerAnswer(await self._client.post(path, body=body, cast_to=object))
        except openai.OpenAIError as error:
            raise translate_error(error) from error
        except ValueError as error:
            raise Unavailable(_NO_ANSWER) from error

    async def _send_over(self, transport: Any, path: str, body: Mapping[str, Any]) -> ServerAnswer:
        """Sends the SDK's request over its transport, and raises the SDK's errors, without the layers in between.

        Those took 0.45 ms of a request's 0.75 ms of CPU (openai 3.54), which an engine on the same cores needs.
        """
        import openai

        content = json.dumps(body).encode()
        address = self._base_url + path
        request = transport.build_request(
            "POST", address, content=content, headers=self._headers, timeout=self._timeout_s
        )
        try:
            response = await transport.send(request)
        except Exception as error:
            names, below = _error_class_names(error), _error_class_names(error.__cause__)
            # The transport reports a cut connection as a timeout, too.
            if "TimeoutException" in names and "ServerDisconnectedError" not in below:
                raise openai.APITimeoutError(request=request) from error
            if "RequestError" in names:
                raise openai.APIConnectionError(request=request) from error
            raise
        if response.is_success:
            return ServerAnswer(response.json(), response.headers.get(ANSWERED_BY))
        # Private, but the only place that maps a status to a class and message.
        raise self._client._make_status_error_from_response(response)

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        on_finish: Callable[[Completion], None] | None = None,
        **options: Any,
    ) -> AsyncIterator[str]:
        """Yields the answer in pieces; at the end `on_finish` gets the whole completion with its times.

        Leaving the loop early closes the connection, which stops the model.
        """
        import openai

        began = time.perf_counter()
        first: float | None = None
        parts: list[str] = []
        usage = finish_reason = None
        try:
            chunks = await self._client.chat.completions.create(
                model=self.model,
                messages=as_dicts(messages),
                stream=True,
                stream_options={"include_usage": True},
                **options,
            )
            async with chunks:
                async for chunk in chunks:
                    usage = chunk.usage or usage
                    if not chunk.choices:
                        continue
                    finish_reason = chunk.choices[0].finish_reason or finish_reason
                    if piece := chunk.choices[0].delta.content:
                        first = first or time.perf_counter()
                        parts.append(piece)
                        yield piece
        except openai.OpenAIError as error:
            raise translate_error(error) from error
        if on_finish:
            on_finish(
                Completion(
                    text="".join(parts),
                    prompt_tokens=usage.prompt_tokens if usage else None,
                    completion_tokens=usage.completion_tokens if usage else None,
                    ttft_s=first - began if first else None,
                    seconds=time.perf_counter() - began,
                    finish_reason=finish_reason,
                )
            )

    async def state(self) -> str:
        """The model's state on a Parley gateway: ready, starting, stopped or failed; "unknown" on other servers.

        Raises:
            NotFound: the server has no such model. ParleyError: it cannot be reached or refuses the request.
        """
        import openai

        try:
            model = await self._client.models.retrieve(self.model)
        except openai.OpenAIError as error:
            raise translate_error(error) from error
        ours = (getattr(model, "model_extra", None) or {}).get("parley")
        return str(ours.get("state", "unknown")) if isinstance(ours, dict) else "unknown"

    async def close(self) -> None:
        """Closes the pooled connections."""
        await self._client.close()


def gateway_completer(
    settings: Settings, model: str, timeout_s: float = 120.0, retries: int = 2, **options: Any
) -> GatewayCompleter:
    """A completer for a model on this home's gateway, with the page's key if one is set.

    `options`: `many` and `patience`, as `GatewayCompleter` takes them.

    Raises:
        Unavailable: Parley is not running from this home.
    """
    key = settings.page_key.get_secret_value() if settings.page_key else None
    address, tls = find_gateway(settings), gateway_tls(settings)
    return GatewayCompleter(address, model, key, timeout_s, retries, tls=tls, **options)


def open_completer(
    settings: Settings, model: str, base_url: str | None, credential: str | None, **options: Any
) -> GatewayCompleter:
    """A completer for a model at `base_url`, with the key in the environment variable `credential`; else the gateway's.

    Raises:
        Invalid: the variable is not set.
    """
    if not base_url:
        return gateway_completer(settings, model, **options)
    key = settings.credential(credential) if credential else None
    if credential and not key:
        raise Invalid(f"--credential names the variable {credential}, which is not set.", param="credential")
    return GatewayCompleter(base_url, model, key, **options)


def read_tokens(logprobs: Sequence[Mapping[str, Any]] | None) -> tuple[Token, ...]:
    """Tokens with their top alternatives from `logprobs.content` of an answer; empty without log-probabilities."""
    return tuple(
        Token(
            text=token["token"],
            likeliest=tuple((top["token"], top["logprob"]) for top in token.get("top_logprobs") or ()),
        )
        for token in logprobs or ()
    )


def read_completion(answer: object, seconds: float) -> Completion:
    """A server's JSON as a Completion.

    Raises:
        Unavailable: it is not a completion. The SDK does not check: an HTML page comes as a string.
    """
    try:
        choice, usage = answer["choices"][0], answer.get("usage") or {}  # type: ignore[index] -- checked by trying
        return Completion(
            text=choice["message"].get("content") or "",
            prompt_tokens=_token_count(usage.get("prompt_tokens")),
            completion_tokens=_token_count(usage.get("completion_tokens")),
            seconds=seconds,
            finish_reason=_reason(choice.get("finish_reason")),
            tokens=read_tokens((choice.get("logprobs") or {}).get("content")),
            tool_calls=tuple(call for call in choice["message"].get("tool_calls") or () if isinstance(call, dict)),
        )
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise Unavailable(_NO_ANSWER) from error


def _token_count(reported: Any) -> int | None:
    """A reported number of tokens; None where it cannot be one, so that a bad count does not cost the answer."""
    return reported if type(reported) is int and 0 <= reported <= _MOST_TOKENS else None


def _reason(reported: Any) -> str | None:
    return reported if isinstance(reported, str) and len(reported) <= _REASON_LIMIT and reported.isprintable() else None


def translate_error(error: "openai.OpenAIError") -> ParleyError:
    """The SDK's error as a ParleyError.

    `retry_after` is set if the server did nothing and the request may be repeated (429, 503). The code is
    NOT_CONNECTED if no connection was established, so that repeating is also safe.
    """
    import openai

    message = _server_message(error)
    match error:
        case openai.APIConnectionError() if _never_connected(error):
            return Unavailable("The server cannot be reached. Is `parley up` running?", code=NOT_CONNECTED)
        case openai.APITimeoutError():
            return Unavailable("The model did not answer in time. Try again, or request fewer tokens.", code="timeout")
        case openai.APIConnectionError():
            return Unavailable("The server cannot be reached. Is `parley up` running?", code="connection_lost")
        case openai.NotFoundError():
            return NotFound(message, code="model_not_found", param="model")
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return Unauthorized(message)
        case openai.RateLimitError():
            return Busy(message, code=error.code, retry_after=_retry_after(error))
        case openai.BadRequestError() | openai.UnprocessableEntityError():
            return Invalid(message, param=getattr(error, "param", None))
        case openai.InternalServerError(status_code=503):
            return Unavailable(message, code=error.code, retry_after=_retry_after(error))
        case _:
            return Unavailable(message)


def _never_connected(error: BaseException | None) -> bool:
    """Whether no connection was established, as opposed to a connection that broke."""
    while error is not None:
        if _error_class_names(error) & {"ConnectError", "ClientConnectorError"}:
            return True
        error = error.__cause__
    return False


def _error_class_names(error: BaseException | None) -> set[str]:
    """The names of an error's classes. The SDK's HTTP library changes with its version, and only `serve` may import
    aiohttp."""
    return {cls.__name__ for cls in type(error).__mro__}


def _retry_after(error: "openai.APIStatusError") -> float:
    """The seconds of the `retry-after` header; 1 without one or for a date."""
    try:
        return max(0.0, float(error.response.headers.get("retry-after", "1")))
    except ValueError:
        return 1.0


def _server_message(error: "openai.OpenAIError") -> str:
    body = getattr(error, "body", None)
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return body["message"]
    return " ".join(str(error).split())
