"""LoRA hot loading: adapters are loaded into and unloaded from a running engine."""

import time
from collections.abc import Awaitable, Callable, Mapping

import aiohttp

from models.errors import ParleyError, Unavailable
from models.spec import ModelSpec
from serve.fleet.engine_states import EngineStatus
from serve.fleet.managed_engine import GATEWAY_NOTICES_S, ManagedEngine
from serve.fleet.vllm_command import Endpoint

_TIMEOUT_S = 120
_LOADED = "has already been loaded"  # vLLM's response to a repeated request, if the first response was lost


async def sync_adapters(
    session: aiohttp.ClientSession,
    engine: ManagedEngine,
    wanted: Mapping[str, ModelSpec],
    locate: Callable[[ModelSpec], Awaitable[str]],
    report: Callable[[str], None],
) -> None:
    """Loads the adapters that the engine should serve and unloads the others.

    Args:
        locate: returns the path under which the engine finds an adapter's weights.
    """
    assert engine.endpoint is not None
    now = time.monotonic()
    for name in [name for name in engine.adapters if name not in wanted]:
        # Running requests keep what they need, but the gateway may still be sending requests with this name.
        if now - engine.leaving.setdefault(name, now) < GATEWAY_NOTICES_S:
            continue
        del engine.adapters[name], engine.leaving[name]
        await _post(session, engine.endpoint, "/v1/unload_lora_adapter", {"lora_name": name})
        report(f"{name} unloaded")
    for name, spec in wanted.items():
        if name in engine.adapters:
            continue
        try:
            body = {"lora_name": name, "lora_path": await locate(spec)}
            await _post(session, engine.endpoint, "/v1/load_lora_adapter", body)
        except Unavailable:
            return  # a busy engine gets another request at the next step, a hanging one is noticed by the next probe
        except (ParleyError, OSError) as error:
            if engine.process is None or engine.process.exit_code() is not None:
                return
            engine.adapters[name] = EngineStatus(name, "failed", message=str(error))
            report(f"{name} cannot be loaded: {error}")
        else:
            engine.adapters[name] = EngineStatus(name, "ready")
            report(f"{name} is ready, on {engine.name}")


async def _post(session: aiohttp.ClientSession, endpoint: Endpoint, route: str, body: dict[str, str]) -> None:
    """Raises ParleyError if the engine rejects the adapter, Unavailable if it does not answer."""
    try:
        async with session.post(
            endpoint.address + route,
            json=body,
            headers=endpoint.headers,
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        ) as response:
            if response.status != 200 and _LOADED not in (text := await response.text()):
                raise ParleyError(f"The engine rejects the adapter: {text[:300]}")
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise Unavailable("The engine does not answer.") from error
