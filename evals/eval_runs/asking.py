"""Models for a run and its graders: answers are requested by the task runner, which caches and retries."""

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
from models.chat.messages import Message
from models.database import Database
from models.settings.settings import Settings


@dataclass(frozen=True)
class Asking:
    """Asks models by the names that a request uses, for one run.

    `salt` keeps sampled answers apart from those of other runs; `ids` are the versions that names stand for. `tick` is
    that of `GradingContext`.
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
        self, model: str, conversations: Sequence[Sequence[Mapping[str, str]]], parameters: Mapping[str, Any]
    ) -> Sequence[Outcome]:
        """A model's outcome for each conversation; an `AskModel` for graders."""
        samples = [
            TaskSample(str(place), tuple(Message.model_validate(message) for message in messages), Sample())
            for place, messages in enumerate(conversations)
        ]
        return await self.ask_samples(model, samples, parameters)

    def grading_context(self) -> GradingContext:
        """For graders."""

        def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
            return gateway_embedder(self.settings, EMBEDDER)(texts)

        return GradingContext(self.ask_conversations, embed, self.settings.unsandboxed_graders, self.tick)


def answered_sample(outcome: Outcome, messages: Sequence[Message]) -> dict[str, Any]:
    """The names of the namespace `sample` besides output_text, for an answer."""
    answer = outcome.answer
    assert answer is not None
    message = {"role": "assistant", "content": answer.text} | (
        {"tool_calls": list(answer.tool_calls)} if answer.tool_calls else {}
    )
    return {
        "model": answer.model,
        "input": [message.model_dump() for message in messages],
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason or "stop"}],
        "output_tools": list(answer.tool_calls),
    }
