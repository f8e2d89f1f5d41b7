"""Which stopped engines of a model start again, after requests for it."""

import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from models.database import utcnow
from serve.fleet.engine_lifecycle import BACKOFF_LIMIT_S
from serve.fleet.managed_engine import ASLEEP, NO_ROOM, ManagedEngine

# How long an engine that was requested while asleep waits for room after the last request for it.
_REQUEST_EXPIRES_S = 120.0
_PLACE_INTERVAL_S = 10.0


def wake_replicas(engines: Sequence[ManagedEngine], requested: datetime | None, pinned: Collection[str]) -> bool:
    """Marks an engine of a model as requested. Of several replicas only one is, because other models' engines may have
    to make room for it; once it runs, the others start if there is room.

    Args:
        engines: the model's engines.
        requested: when the model or one of its adapters was last requested while it was not running.
        pinned: the names of engines that start without a request.

    Returns:
        Whether there are replicas to place.
    """
    idle = [engine for engine in engines if engine.share is None]
    _request_pinned(idle, pinned)
    running = [engine for engine in engines if engine.share and not (engine.drain and engine.drain.then != "restart")]
    if running:
        used = max(engine.used for engine in running)
        to_place = [_revive(engine, used) for engine in idle if engine.name not in pinned]
        return any(to_place)
    for engine in idle:
        since = engine.asleep_since
        if engine.gave_up_at:
            since = engine.gave_up_at + timedelta(seconds=BACKOFF_LIMIT_S)
        if requested is not None and since is not None and requested > since:
            engine.requested_at, requested = time.monotonic(), None
        elif engine.name in pinned or engine.requested_at is None:
            continue
        elif time.monotonic() - engine.requested_at > _REQUEST_EXPIRES_S:
            engine.requested_at, engine.state, engine.message = None, "stopped", ASLEEP
    return False


def _request_pinned(idle: Sequence[ManagedEngine], pinned: Collection[str]) -> None:
    for engine in idle:
        if engine.name in pinned and not engine.gave_up_at:
            engine.requested_at = engine.requested_at or time.monotonic()


def _revive(engine: ManagedEngine, used: float) -> bool:
    """Prepares a replica for another start, if one is due. `used`: when its model last had a request."""
    now = time.monotonic()
    if engine.gave_up_at:
        if utcnow() - engine.gave_up_at < timedelta(seconds=BACKOFF_LIMIT_S) or now - used > BACKOFF_LIMIT_S:
            return False
        engine.gave_up_at, engine.state, engine.message = None, "stopped", NO_ROOM
    elif now < engine.retry_at:
        return False
    engine.waits_for_request, engine.attempts, engine.requested_at = False, 0, None
    engine.retry_at = now + _PLACE_INTERVAL_S
    return True
