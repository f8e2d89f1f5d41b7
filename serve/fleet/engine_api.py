"""Requests that the supervisor makes to an engine: a probe, its load, loading and unloading LoRA adapters."""

from dataclasses import dataclass

import aiohttp

from models.errors import ParleyError, Unavailable
from serve.fleet.vllm_command import Endpoint

METRICS_TIMEOUT_S = 5.0


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
    route, body = "completions", {"model": model_id, "prompt": "a", "max_tokens": 1, "temperature": 0}
    if embeds:
        route, body = "embeddings", {"model": model_id, "input": "a"}
    try:
        async with session.post(
            f"{engine.address}/v1/{route}",
            json=body,
            headers=_bearer(engine),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as answer:
            return answer.status == 200
    except (TimeoutError, aiohttp.ClientError, OSError):
        return False


async def read_load(session: aiohttp.ClientSession, engine: Endpoint) -> EngineLoad | None:
    """The engine's load; None if it does not report it."""
    try:
        async with session.get(
            f"{engine.address}/metrics", headers=_bearer(engine), timeout=aiohttp.ClientTimeout(total=METRICS_TIMEOUT_S)
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


async def load_adapter(session: aiohttp.ClientSession, engine: Endpoint, name: str, path: str) -> None:
    """Loads a LoRA folder under a name.

    Raises:
        ParleyError: the engine rejects it; Unavailable: the engine does not answer.
    """
    await _post(session, engine, "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})


async def unload_adapter(session: aiohttp.ClientSession, engine: Endpoint, name: str) -> None:
    """Unloads an adapter. Raises as `load_adapter`."""
    await _post(session, engine, "/v1/unload_lora_adapter", {"lora_name": name})


async def _post(session: aiohttp.ClientSession, engine: Endpoint, route: str, body: dict[str, str]) -> None:
    try:
        async with session.post(
            engine.address + route, json=body, headers=_bearer(engine), timeout=aiohttp.ClientTimeout(total=120)
        ) as answer:
            if answer.status != 200:
                raise ParleyError(f"The engine rejects the adapter: {(await answer.text())[:300]}")
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise Unavailable("The engine does not answer.") from error


def _bearer(engine: Endpoint) -> dict[str, str]:
    return {"Authorization": f"Bearer {engine.key}"}
