"""Requests that the supervisor makes to an engine: a probe for liveness, and its load."""

from dataclasses import dataclass
from typing import Any

import aiohttp

from models.errors import Unavailable
from serve.fleet.vllm_command import Endpoint

METRICS_TIMEOUT_S = 5.0


class CertificateRejected(Unavailable):
    """An engine's TLS certificate is not valid for its address, or was issued by another authority."""


@dataclass(frozen=True)
class EngineLoad:
    """The engine's load and past work as counts, from its metrics."""

    running: float
    waiting: float
    finished: float
    tokens: float

    @property
    def idle(self) -> bool:
        """Whether no request is running or waiting."""
        return not self.running and not self.waiting


async def probe_generation(
    session: aiohttp.ClientSession, engine: Endpoint, model_id: str, timeout_s: float, *, embeds: bool = False
) -> bool:
    """Whether the engine generates one token or one embedding. `/health` is no proof: it stays 200 while the core
    hangs.
    """
    route, body = "completions", {"prompt": "a", "max_tokens": 1, "temperature": 0}
    if embeds:
        route, body = "embeddings", {"input": "a"}
    return await _post(session, engine, route, {"model": model_id} | body, timeout_s) == 200


async def request_logprobs(
    session: aiohttp.ClientSession, engine: Endpoint, model_id: str, timeout_s: float
) -> int | None:
    """The status of a request for one token with log-probabilities; None if the engine did not answer."""
    body = {"model": model_id, "prompt": "a", "max_tokens": 1, "temperature": 0, "logprobs": 1}
    return await _post(session, engine, "completions", body, timeout_s)


async def _post(
    session: aiohttp.ClientSession, engine: Endpoint, route: str, body: dict[str, Any], timeout_s: float
) -> int | None:
    try:
        async with session.post(
            f"{engine.address}/v1/{route}",
            json=body,
            headers=engine.headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as answer:
            return answer.status
    except aiohttp.ClientConnectorCertificateError as error:
        reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        raise CertificateRejected(f"has a TLS certificate that is rejected: {reason}") from error
    except (TimeoutError, aiohttp.ClientError, OSError):
        return None


async def read_load(session: aiohttp.ClientSession, engine: Endpoint) -> EngineLoad | None:
    """The engine's load; None if it does not report it."""
    try:
        async with session.get(
            f"{engine.address}/metrics", headers=engine.headers, timeout=aiohttp.ClientTimeout(total=METRICS_TIMEOUT_S)
        ) as answer:
            return read_metrics(await answer.text()) if answer.status == 200 else None
    except (TimeoutError, aiohttp.ClientError, OSError):
        return None


def read_metrics(text: str) -> EngineLoad | None:
    """Parses vLLM's metrics in Prometheus's text format; None if they are missing."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("vllm:"):
            name = line.partition("{")[0].partition(" ")[0]
            sums[name] = sums.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
    if "vllm:num_requests_running" not in sums:
        return None
    return EngineLoad(
        sums["vllm:num_requests_running"],
        sums.get("vllm:num_requests_waiting", 0.0),
        sums.get("vllm:request_success_total", 0.0),
        sums.get("vllm:prompt_tokens_total", 0.0) + sums.get("vllm:generation_tokens_total", 0.0),
    )
