"""What a campaign is, and the request for a new one. No database."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from evals.campaign_tables import OPEN_CAMPAIGN, CampaignRow
from models.database import utcnow
from models.errors import Invalid

OPEN = OPEN_CAMPAIGN
Access = Literal["invited", "open"]
RevealPolicy = Literal["after_vote", "at_end", "never"]
LeakPolicy = Literal["mask", "set_aside"]
State = Literal["draft", "scheduled", "open", "closed"]
MAX_CRITERIA = 5
_LIMITS = {"votes_per_pair": 1_000_000, "votes_per_person": 1_000_000, "samples": 100}
_NAME = re.compile(r"[a-z0-9-]{1,64}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_CRITERION_LIMIT, _TITLE_LIMIT, _TEXT_LIMIT = 64, 255, 4_000  # characters


@dataclass(frozen=True)
class Campaign:
    """A stored campaign. `prompts` counts its prompts; those of an open-ended one are the stored prompts.

    `models` are references: a registered id, or a recorded model (`MODEL@recorded`), whose recording's id is in
    `recordings`. `votes_per_pair` is how many people vote on each pair of answers, `votes_per_person` how many votes
    one person is asked for; None means without a limit. `margin`: "at least as good" allows this much below half of
    the wins. `samples`: how many answers of each model to each prompt are compared.
    """

    name: str
    title: str
    question: str
    welcome: str
    thanks: str
    language: str
    criteria: tuple[str, ...]
    models: tuple[str, ...]
    recordings: Mapping[str, str]
    prompts: int
    votes_per_pair: int | None
    votes_per_person: int | None
    margin: float
    access: Access
    reveal: RevealPolicy
    on_leak: LeakPolicy
    open_ended: bool
    repeat_share: float
    gold_share: float
    samples: int
    seed: int
    created_by: str | None
    created: datetime
    opens: datetime | None
    closes: datetime | None
    opened: datetime | None
    closed: datetime | None

    @property
    def state(self) -> State:
        """The state now; planned times take effect without any process running."""
        return self.state_at(utcnow())

    def state_at(self, now: datetime) -> State:
        """The state at a time: draft until it is opened, scheduled until `opens`, closed from `closes` on."""
        if self.closed is not None or (self.opened is not None and self.closes is not None and self.closes <= now):
            return "closed"
        if self.opened is None:
            return "draft"
        return "scheduled" if self.opens is not None and self.opens > now else "open"

    def to_json(self) -> dict[str, Any]:
        """The campaign as plain JSON values."""
        values = {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in vars(self).items()
        }
        lists = {"models": list(self.models), "criteria": list(self.criteria), "recordings": dict(self.recordings)}
        return values | lists | {"state": self.state}


def as_campaign(row: CampaignRow, prompts: int) -> Campaign:
    """The campaign in a row."""
    values = {name: getattr(row, name) for name in Campaign.__dataclass_fields__ if name != "prompts"}
    values |= {"criteria": tuple(row.criteria), "models": tuple(row.models), "prompts": prompts}
    return Campaign(**values)


@dataclass(frozen=True)
class PromptSource:
    """The source of a campaign's prompts; exactly one is given.

    Attributes:
        file: a JSONL file of prompts.
        task: a task's name as `parley eval` takes it, such as `run:ID` for the held-out samples of a training run.
        stored: the stored prompts: "all", "held-out", or "category:NAME".
    """

    file: Path | None = None
    task: str | None = None
    stored: str | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.file, self.task, self.stored)) != 1:
            raise Invalid("Name exactly one source of prompts: a file, a task, or stored prompts.", param="prompts")
        if self.stored not in (None, "all", "held-out") and not re.fullmatch("category:.+", self.stored or ""):
            raise Invalid(
                f"Stored prompts are `all`, `held-out` or `category:NAME`, not {self.stored!r}.", param="prompts"
            )


@dataclass(frozen=True)
class NewCampaign:
    """The request for a campaign. A wrong value raises Invalid when the request is made.

    Attributes as in `Campaign`. `models`: names, aliases or `MODEL@recorded`; at least two.
    """

    name: str
    models: Sequence[str]
    prompts: PromptSource
    question: str = "Which answer would you rather get?"
    title: str = ""
    welcome: str = ""
    thanks: str = ""
    language: str = "en"
    criteria: Sequence[str] = ()
    votes_per_pair: int | None = 1
    votes_per_person: int | None = None
    margin: float = 0.05
    access: Access = "invited"
    reveal: RevealPolicy = "at_end"
    on_leak: LeakPolicy = "mask"
    repeat_share: float = 0.0
    gold_share: float = 0.0
    samples: int = 1
    opens: datetime | None = None
    closes: datetime | None = None
    created_by: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(set(self.models)) < 2 or len(set(self.models)) < len(self.models):
            raise Invalid("A campaign needs at least two different models.", param="models")
        self._check_texts()
        self._check_criteria()
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= limit:
                raise Invalid(f"{name} must be between 1 and {limit:,}.", param=name)
        if not 0 < self.margin < 0.5:
            raise Invalid("The margin must be above 0 and below 0.5: 0.05 means 5 points.", param="margin")
        for name in ("repeat_share", "gold_share"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise Invalid(f"{name} must be between 0 and 0.5.", param=name)
        for name, allowed in (("access", Access), ("reveal", RevealPolicy), ("on_leak", LeakPolicy)):
            if getattr(self, name) not in get_args(allowed):
                raise Invalid(f"{name} must be one of {', '.join(get_args(allowed))}.", param=name)
        self._check_times()

    def _check_texts(self) -> None:
        if not self.question.strip():
            raise Invalid("The question is missing: write what raters are asked.", param="question")
        for name, limit in (("title", _TITLE_LIMIT), *((n, _TEXT_LIMIT) for n in ("question", "welcome", "thanks"))):
            if len(getattr(self, name)) > limit:
                raise Invalid(f"The {name} is over {limit:,} characters: shorten it.", param=name)
        if not _LANGUAGE.fullmatch(self.language) or len(self.language) > 16:
            raise Invalid(f"{self.language!r} is not a language code: use one such as en or de.", param="language")

    def _check_criteria(self) -> None:
        if len(self.criteria) > MAX_CRITERIA:
            raise Invalid(
                f"A campaign has at most {MAX_CRITERIA} criteria besides the overall choice.", param="criteria"
            )
        if len(set(self.criteria)) < len(self.criteria):
            raise Invalid("A criterion is listed twice.", param="criteria")
        for criterion in self.criteria:
            if not 0 < len(criterion.strip()) <= _CRITERION_LIMIT or criterion != criterion.strip():
                raise Invalid(f"A criterion must have 1 to {_CRITERION_LIMIT} characters.", param="criteria")

    def _check_times(self) -> None:
        for name in ("opens", "closes"):
            value = cast(datetime | None, getattr(self, name))
            if value is not None and value.tzinfo is None:
                raise Invalid(f"The time {name!r} needs a time zone, such as 2027-01-05T09:00+01:00.", param=name)
        now = utcnow()
        if self.closes is not None and self.closes <= max(self.opens or now, now):
            raise Invalid("A campaign must close after it opens, and not in the past.", param="closes")


def check_name(name: str) -> str:
    """The name, if it is allowed.

    Raises:
        Invalid: it is not.
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} is not a name for a campaign: use 1 to 64 lower-case letters, digits and dashes.", param="name"
        )
    return name
