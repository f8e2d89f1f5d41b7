"""The requests and responses of the campaign routes, for validation and for the OpenAPI document."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from models.http.bodies import Body
from models.http.operations import ListPage, Operation, Shape

_Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
_Model = Annotated[str, Field(min_length=1, max_length=255)]
_Count = Annotated[int, Field(ge=1, le=1_000_000)]
_Share = Annotated[float, Field(ge=0, le=0.5)]


class Prompts(Body):
    """The source of a campaign's prompts: exactly one of the fields.

    `file`: the id of an uploaded JSONL file. `task`: `run:ID`. `stored`: all, held-out or category:NAME.
    """

    file: str | None = None
    task: Annotated[str, Field(pattern=r"^run:.+$")] | None = None
    stored: str | None = None


class CampaignCreate(Body):
    """A new campaign. Its models, prompts and size are fixed once it opens. Times must have a time zone."""

    name: _Name
    models: Annotated[list[_Model], Field(min_length=2)]
    prompts: Prompts
    question: str = "Which answer would you rather get?"
    title: str = ""
    welcome: str = ""
    thanks: str = ""
    language: str = "en"
    criteria: list[str] = Field(default_factory=list)
    votes_per_pair: _Count | None = 1
    votes_per_person: _Count | None = None
    margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    access: Literal["invited", "open"] = "invited"
    reveal: Literal["after_vote", "at_end", "never"] = "at_end"
    on_leak: Literal["mask", "set_aside"] = "mask"
    repeat_share: _Share = 0.0
    gold_share: _Share = 0.0
    samples: Annotated[int, Field(ge=1, le=100)] = 1
    opens: datetime | None = None
    closes: datetime | None = None


class CampaignEntry(Shape):
    """A campaign."""

    name: str
    state: str
    title: str
    question: str
    models: list[str]
    prompts: int


class CampaignEntries(ListPage):
    """The campaigns, newest first."""

    data: list[CampaignEntry]


_CAMPAIGNS, _TAG = "/v1/parley/campaigns", "Management"
_CAMPAIGN = f"{_CAMPAIGNS}/{{campaign}}"
OPERATIONS = (
    Operation("GET", _CAMPAIGNS, "List campaigns.", _TAG, CampaignEntries),
    Operation(
        "POST", _CAMPAIGNS, "Create a campaign as a draft.", _TAG, CampaignEntry, body=CampaignCreate,
        errors=(404, 409),
    ),
    Operation("GET", _CAMPAIGN, "Show a campaign.", _TAG, CampaignEntry, errors=(404,)),
    Operation("POST", f"{_CAMPAIGN}/open", "Open a campaign.", _TAG, CampaignEntry, errors=(404, 409)),
    Operation("POST", f"{_CAMPAIGN}/close", "Close a campaign.", _TAG, CampaignEntry, errors=(404, 409)),
    Operation("GET", f"{_CAMPAIGN}/report", "Read the verdicts so far.", _TAG, "application/json", errors=(404, 409)),
)  # fmt: skip
