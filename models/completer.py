"""The Completer that reaches models as any client does: with the OpenAI SDK, over HTTP, with a key of its own."""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models.errors import Busy, Invalid, NotFound, ParleyError, Unauthorized, Unavailable
from models.messages import Completion, Message, Token, as_dicts
from models.settings import Settings

if TYPE_CHECKING:
    import openai

_NO_ANSWER = "The server's answer is no chat completion: is this an OpenAI-compatible address?"


class GatewayCompleter:
    """One model behind one OpenAI-compatible address. Follows the `Completer` protocol, and can stream."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        retries: int = 2,
        *,
        many: bool = False,
    ) -> None:
        from openai import AsyncOpenAI, DefaultAioHttpClient

        self.model = model
        # For many requests at once the SDK's other transport: it takes two thirds of the CPU for each.
        transport = DefaultAioHttpClient() if many else None
        # The SDK insists on a key; a server without keys does not look at it.
        key = api_key or "no-key"
        self._client = AsyncOpenAI(
            base_url=base_url, api_key=key, timeout=timeout_s, max_retries=retries, http_client=transport
        )
        self._base_url, self._timeout_s = base_url.rstrip("/"), timeout_s
        # Where the SDK need not repeat anything, its transport is asked without it: see `_sent`.
        self._bare = transport if retries == 0 else None
        own = {name: value for name, value in self._client.default_headers.items() if isinstance(value, str)}
        self._headers = own | {"Authorization": f"Bearer {key}"}

    async def __call__(self, messages: Sequence[Message], **options: Any) -> Completion:
        """One whole answer."""
        began = time.perf_counter()
        # `extra_body` has what the SDK's own call does not know, as it does there.
        more = options.pop("extra_body", None) or {}
        body = {"model": self.model, "messages": as_dicts(messages), **options, **more}
        answer = await self.post("/chat/completions", body)
        return _completion(answer, time.perf_counter() - began)

    async def post(self, path: str, body: Mapping[str, Any]) -> object:
        """The server's JSON to a body, as it came; `path` is below /v1, with a slash before it.

        Raises:
            ParleyError: what `told` makes of the SDK's error, or Unavailable where no JSON came.
        """
        import openai

        try:
            # Not chat.completions.create(): that walks through every message and builds objects that nobody reads
            # here, for half of a request's CPU. This is the same request, with the SDK's errors and retries.
            if self._bare is not None:
                return await self._send(self._bare, path, body)
            return await self._client.post(path, body=body, cast_to=object)
        except openai.OpenAIError as error:
            raise translate_error(error) from error
        except ValueError as error:
            raise Unavailable(_NO_ANSWER) from error

    async def _send(self, transport: Any, path: str, body: Mapping[str, Any]) -> object:
        """The SDK's request over the SDK's transport, with the SDK's errors, but without what it does in between.

        That took 0.45 ms of CPU of a request's 0.75 (openai 3.54), which an engine on the same cores goes without.
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
            # The transport calls a connection that was cut a time-out too.
            if "TimeoutException" in names and "ServerDisconnectedError" not in below:
                raise openai.APITimeoutError(request=request) from error
            if "RequestError" in names:
                raise openai.APIConnectionError(request=request) from error
            raise
        if response.is_success:
            return response.json()
        # Protected, but the one place that knows which class and message a status has.
        raise self._client._make_status_error_from_response(response)

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        on_finish: Callable[[Completion], None] | None = None,
        **options: Any,
    ) -> AsyncIterator[str]:
        """The answer in pieces as they come; at the end `on_finish` gets the whole of it with its times.

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
        """What a Parley's gateway says of the model: ready, starting, stopped or failed; unknown to other servers.

        Raises:
            NotFound: the server has no such model. ParleyError: it cannot be reached, or refuses.
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
    settings: Settings, model: str, timeout_s: float = 120.0, retries: int = 2, *, many: bool = False
) -> GatewayCompleter:
    """A model on this Parley's own gateway, called with the page's key where there is one; `many` requests at once."""
    key = settings.page_key.get_secret_value() if settings.page_key else None
    return GatewayCompleter(settings.gateway_url, model, key, timeout_s, retries, many=many)


def _tokens(choice: Mapping[str, Any]) -> tuple[Token, ...]:
    """The answer's tokens with their likeliest alternatives; empty where no log-probabilities came back."""
    content = (choice.get("logprobs") or {}).get("content") or ()
    return tuple(
        Token(
            text=one["token"], likeliest=tuple((top["token"], top["logprob"]) for top in one.get("top_logprobs") or ())
        )
        for one in content
    )


def _completion(answer: object, seconds: float) -> Completion:
    """A server's JSON as a Completion.

    Raises:
        Unavailable: it is none. The SDK checks no shape: a page of HTML comes as a string.
    """
    try:
        choice, usage = answer["choices"][0], answer.get("usage") or {}  # type: ignore[index] -- checked by trying
        return Completion(
            text=choice["message"].get("content") or "",
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            seconds=seconds,
            finish_reason=choice.get("finish_reason"),
            tokens=_tokens(choice),
        )
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise Unavailable(_NO_ANSWER) from error


def translate_error(error: "openai.OpenAIError") -> ParleyError:
    """The SDK's error as one of ours, in one line.

    `retry_after` is set where the server has done nothing and may be asked again (429, 503); the code is
    "not_connected" where no connection came about, which is as harmless.
    """
    import openai

    message = _server_message(error)
    match error:
        case openai.APIConnectionError() if _never_connected(error):
            return Unavailable("The server cannot be reached. Is `parley up` running?", code="not_connected")
        case openai.APITimeoutError():
            return Unavailable("The model did not answer in time. Try again, or ask for fewer tokens.", code="timeout")
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
    """Whether no connection came about, so that nothing can have been done. A broken one is told apart from that."""
    while error is not None:
        if _error_class_names(error) & {"ConnectError", "ClientConnectorError"}:
            return True
        error = error.__cause__
    return False


def _error_class_names(error: BaseException | None) -> set[str]:
    """What kind of error it is, by name: the SDK's HTTP libraries change with its version, and only `serve` may import
    aiohttp."""
    return {cls.__name__ for cls in type(error).__mro__}


def _retry_after(error: "openai.APIStatusError") -> float:
    """The seconds that the server asks for; 1 where it names none, or names a date."""
    try:
        return max(0.0, float(error.response.headers.get("retry-after", "1")))
    except ValueError:
        return 1.0


def _server_message(error: "openai.OpenAIError") -> str:
    body = getattr(error, "body", None)
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return body["message"]
    return " ".join(str(error).split())
