"""The requests and responses of the management routes, for validation and for the OpenAPI document."""

from typing import Annotated, Any, Literal

from pydantic import Field

from models.http.bodies import Body
from models.http.operations import ListPage, Operation, Shape

MAX_LISTED = 1000
_Limit = Annotated[int, Field(ge=1, le=10**15)]
_Usd = Annotated[float, Field(gt=0, le=10**15, allow_inf_nan=False)]
_Scope = Annotated[list[Annotated[str, Field(min_length=1, max_length=255)]], Field(min_length=1, max_length=1000)]
_Weight = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class AliasSet(Body):
    """An alias and the model that it points to, or several models with their weights."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    to: Annotated[str, Field(min_length=1, max_length=255)] | Annotated[dict[str, _Weight], Field(min_length=2)]


class Alias(Shape):
    """An alias. `weights`: null unless it points to several models; `target` then has the largest weight."""

    name: str
    target: str
    weights: dict[str, float] | None


class AliasList(ListPage):
    """Every alias."""

    data: list[Alias]


class Deleted(Shape):
    """The confirmation of a deletion."""

    id: str
    deleted: Literal[True]


class _KeySettings(Body):
    models: _Scope | None = None
    requests_per_minute: _Limit | None = None
    tokens_per_minute: _Limit | None = None
    daily_tokens: _Limit | None = None
    daily_usd: _Usd | None = None
    expires: Annotated[str, Field(max_length=32)] | None = Field(
        default=None, description="When it expires: 30d, 12h, or at the end of a UTC day, 2027-01-31."
    )


class KeyCreate(_KeySettings):
    """A new key. Without `models` it may use all models; limits that are left out do not apply."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    role: Literal["client", "owner"] = "client"


class KeyChange(_KeySettings):
    """Changes to an active key. Fields that are left out stay as they are; null removes a limit, scope or expiry."""


class Key(Shape):
    """An API key without its secret."""

    id: str
    name: str
    role: str
    state: str
    created: str
    expires: str | None
    revoked: str | None
    models: list[str] | None
    limits: dict[str, float | None]


class NewKey(Key):
    """A new key with its secret, which is not shown again."""

    secret: str


class KeyList(ListPage):
    """All keys, oldest first, including revoked ones."""

    data: list[Key]


class JobsQuery(Shape):
    """Parameters of a list of jobs."""

    kind: str | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 50


class JobEntry(Shape):
    """A job of the worker. `progress` is from 0 to 1."""

    id: str
    kind: str
    status: str
    progress: float
    message: str
    error: str | None
    params: dict[str, Any]
    result: dict[str, Any] | None
    created: str
    started: str | None
    finished: str | None


class JobList(ListPage):
    """The newest jobs, newest first."""

    data: list[JobEntry]


class AuditQuery(Shape):
    """Parameters of the audit log."""

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 100
    target: str | None = None


class Change(Shape):
    """One change: who made it, from where, and what changed."""

    id: str
    created: str
    actor: str
    key_id: str | None
    address: str
    action: str
    target: str
    detail: dict[str, Any]


class ChangeList(ListPage):
    """The newest changes, newest first."""

    data: list[Change]


_ROOT, _TAG = "/v1/parley", "Management"
_KEY, _JOB = f"{_ROOT}/keys/{{key}}", f"{_ROOT}/jobs/{{job_id}}"
OPERATIONS = (
    Operation("GET", f"{_ROOT}/aliases", "List aliases.", _TAG, AliasList),
    Operation("POST", f"{_ROOT}/aliases", "Set an alias.", _TAG, Alias, body=AliasSet, errors=(404, 409)),
    Operation("DELETE", f"{_ROOT}/aliases/{{alias}}", "Remove an alias.", _TAG, Deleted, errors=(404,)),
    Operation("GET", f"{_ROOT}/keys", "List keys.", _TAG, KeyList),
    Operation("POST", f"{_ROOT}/keys", "Create a key.", _TAG, NewKey, body=KeyCreate, errors=(409,)),
    Operation("GET", _KEY, "Show a key, by name or id.", _TAG, Key, errors=(404,)),
    Operation("POST", _KEY, "Change a key.", _TAG, Key, body=KeyChange, errors=(404, 409)),
    Operation("POST", f"{_KEY}/revoke", "Revoke a key.", _TAG, Key, errors=(404,)),
    Operation("GET", f"{_ROOT}/jobs", "List jobs.", _TAG, JobList, query=JobsQuery),
    Operation("GET", _JOB, "Show a job.", _TAG, JobEntry, errors=(404,)),
    Operation("POST", f"{_JOB}/cancel", "Cancel a job.", _TAG, JobEntry, errors=(404,)),
    Operation("GET", f"{_ROOT}/audit", "Read the audit log.", _TAG, ChangeList, query=AuditQuery),
)
