"""Prompts, requests and runs against a server for the tests of recordings."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.recordings.recorder import RecordingRun, Server, record
from evals.recordings.recording_request import RecordingRequest
from evals.tasks.runner import Progress
from evals.votes.prompts import Prompt, add_prompts, prompts
from models.chat.completer import GatewayCompleter, ServerAnswer
from models.database import Database
from models.spec import ModelSpec, Upstream

OLD = ModelSpec(id="old", kind="hosted", upstream=Upstream(base_url="http://127.0.0.1:9/v1", model="old"))


def stored_prompts(database: Database, *texts: str) -> tuple[Prompt, ...]:
    """Held-out prompts with these texts."""
    add_prompts(database, [{"prompt": text, "held_out": True} for text in texts], "test")
    return tuple(prompts(database))


def request(chosen: Sequence[Prompt], spec: ModelSpec = OLD, **changes: Any) -> RecordingRequest:
    """A request with short answers."""
    return RecordingRequest(**{"spec": spec, "prompts": chosen, "parameters": {"max_tokens": 16}} | changes)


def run(
    database: Database,
    server: Server | str,
    wanted: RecordingRequest,
    tmp_path: Path,
    progress: Callable[[Progress], None] | None = None,
) -> RecordingRun:
    """Records against a server, or an address."""

    async def recorded() -> RecordingRun:
        live = GatewayCompleter(server, wanted.spec.id, None, 10.0, 0, many=True) if isinstance(server, str) else server
        try:
            return await record(database, live, wanted, tmp_path / "locks", progress)
        finally:
            if isinstance(live, GatewayCompleter):
                await live.close()

    return asyncio.run(recorded())


class ScriptedServer:
    """Answers with the number of the request, without log-probabilities; `model`: the one that answered."""

    def __init__(self, model: str | None = None) -> None:
        self.model = model
        self.bodies: list[Mapping[str, Any]] = []

    async def send(self, path: str, body: Mapping[str, Any]) -> ServerAnswer:
        self.bodies.append(body)
        message = {"role": "assistant", "content": f"answer {len(self.bodies)}"}
        answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        return ServerAnswer(answer | {"usage": {"prompt_tokens": 10, "completion_tokens": 16}}, self.model)
