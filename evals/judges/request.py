"""The request for a judging run, built by the command, the job and the Python API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evals.campaign_tables import OPEN_CAMPAIGN
from evals.request_pool import CONCURRENCY
from models.chat.judge_prompt import DEFAULT_RUBRIC, Rubric
from models.errors import Invalid


@dataclass(frozen=True)
class JudgeRequest:
    """A judge, the two models to compare, and the options.

    Attributes:
        judge, models: ids or aliases at the edge (`evals.served_runs` resolves them), ids of versions inside.
        prompts: a number of stored prompts (held-out ones first), their ids, or None for all.
        samples: judgments per question, 1 to 32; more than one are drawn at temperature 0.7.
        references: reference answers by prompt id, shown to the judge.
        notes: sentences about the judge that go into the report.
        concurrency: questions in flight at a time.
        campaign: the one whose votes the judge is compared with.

    Raises:
        Invalid: the two models are the same.
    """

    judge: str
    models: tuple[str, str]
    prompts: int | Sequence[str] | None = None
    rubric: Rubric = DEFAULT_RUBRIC
    samples: int = 1
    references: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    concurrency: int = CONCURRENCY
    campaign: str = OPEN_CAMPAIGN

    def __post_init__(self) -> None:
        if self.models[0] == self.models[1]:
            raise Invalid("A judge compares two models: name two different ones.", param="models")
