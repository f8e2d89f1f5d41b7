"""The models of a run and its graders. Requests go through the task runner, which caches answers and retries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals.graders.grade import GradingContext
from evals.graders.grading import EMBEDDER
from evals.scorers.sample import Sample
from evals.served_models import Completers, resolve_models
from evals.served_runs import gateway_embedder
from evals.tasks.answer_cache import Outcome
from evals.tasks.runner import Batch, Progress, ask_all
from evals.tasks.task import TaskSample
from models.chat.messages import Message, as_dicts, read_api_message
from models.database import Database
from models.settings.settings import Settings


@dataclass(frozen=True)
class RunModels:
    """Calls models by the names in a run's request.

    `salt` separates sampled answers from those of other runs. `ids`: name → id of the version. `tick`: as in
    `GradingContext`.
    """

    settings: Settings
    database: Database
    completers: Completers
    salt: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    report: Callable[[Progress], None] | None = None
    tick: Callable[[], None] = lambda: None

    async def ask_samples(
        self, model: str, samples: Sequence[TaskSample], parameters: Mapping[str, Any]
    ) -> Sequence[Outcome]:
        """A model's outcome for each sample."""
        if model not in self.ids:
            (spec,) = resolve_models(self.settings, self.database, model)
            self.ids[model] = spec.id
        version = self.ids[model]
        fixed = parameters.get("temperature") == 0 or "seed" in parameters
        batch = Batch([version], samples, parameters, salt="" if fixed else self.salt)
        run = await ask_all(self.database, self.completers.unretried, batch, self.report)
        return run.outcomes[version]

    async def ask_conversations(
        self, model: str, conversations: Sequence[Sequence[Mapping[str, Any]]], parameters: Mapping[str, Any]
    ) -> Sequence[Outcome]:
        """A model's outcome for each conversation. Implements `AskModel`, for graders."""
        samples = [
            TaskSample(str(place), tuple(read_api_message(message) for message in messages), Sample())
            for place, messages in enumerate(conversations)
        ]
        return await self.ask_samples(model, samples, parameters)

    def grading_context(self) -> GradingContext:
        """The context in which graders call these models."""

        def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
            return gateway_embedder(self.settings, EMBEDDER)(texts)

        return GradingContext(self.ask_conversations, embed, self.settings.unsandboxed_graders, self.tick)


def answered_sample(outcome: Outcome, messages: Sequence[Message]) -> dict[str, Any]:
    """The values of the namespace `sample` for a model's answer, except output_text."""
    answer = outcome.answer
    assert answer is not None
    message = {"role": "assistant", "content": answer.text} | (
        {"tool_calls": list(answer.tool_calls)} if answer.tool_calls else {}
    )
    return {
        "model": answer.model,
        "input": as_dicts(messages),
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason or "stop"}],
        "output_tools": list(answer.tool_calls),
    }
