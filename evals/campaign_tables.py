"""Tables of campaigns: their prompts, invites, raters, criteria and failures; vote imports; and recorded answers."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.database import Base, UtcDateTime, utcnow

OPEN_CAMPAIGN = "open"  # the campaign behind /vote; the migration creates it


class CampaignRow(Base):
    """A campaign: a question to raters about some models' answers to some prompts.

    It is a draft until `opened`, and takes votes until `closed`. Models, prompts, criteria, size and margin do not
    change after it opened. `opens` and `closes` are the planned times.
    """

    __tablename__ = "campaigns"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    title: Mapped[str] = mapped_column(String(255))
    question: Mapped[str] = mapped_column(Text)
    welcome: Mapped[str] = mapped_column(Text, default="")
    thanks: Mapped[str] = mapped_column(Text, default="")
    language: Mapped[str] = mapped_column(String(16), default="en")
    # Criteria besides the overall choice, at most five.
    criteria: Mapped[list[str]] = mapped_column(JSON, default=list)
    models: Mapped[list[str]] = mapped_column(JSON, default=list)
    # The recording that answers for a model, by the model's name; fixed when the campaign opens.
    recordings: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    votes_per_pair: Mapped[int | None] = mapped_column()
    votes_per_person: Mapped[int | None] = mapped_column()
    # "At least as good" means at most this share of the win below one half.
    margin: Mapped[float] = mapped_column(default=0.05)
    access: Mapped[str] = mapped_column(String(16), default="invited")  # invited or open
    reveal: Mapped[str] = mapped_column(String(16), default="at_end")  # after_vote, at_end or never
    on_leak: Mapped[str] = mapped_column(String(16), default="mask")  # mask or set_aside
    # Without a planned size: its prompts are the stored ones, and raters may ask their own questions.
    open_ended: Mapped[bool] = mapped_column(default=False)
    repeat_share: Mapped[float] = mapped_column(default=0.0)
    gold_share: Mapped[float] = mapped_column(default=0.0)
    # How many answers of each model to each prompt are compared.
    samples: Mapped[int] = mapped_column(default=1, server_default="1")
    seed: Mapped[int] = mapped_column(BigInteger, default=0)
    created_by: Mapped[str | None] = mapped_column(String(26))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    opens: Mapped[datetime | None] = mapped_column(UtcDateTime)
    closes: Mapped[datetime | None] = mapped_column(UtcDateTime)
    opened: Mapped[datetime | None] = mapped_column(UtcDateTime)
    closed: Mapped[datetime | None] = mapped_column(UtcDateTime)


class CampaignPromptRow(Base):
    """A prompt of a campaign, at its place from 0."""

    __tablename__ = "campaign_prompts"

    campaign: Mapped[str] = mapped_column(ForeignKey("campaigns.name"), primary_key=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"), primary_key=True)
    place: Mapped[int] = mapped_column()


class CampaignPairRow(Base):
    """Two models of a campaign on one prompt and sample: how often they were shown and voted on.

    Counters, so that the next pair is chosen without counting battles. `pair_id` is the pair of answers that is shown,
    once it is fixed. `points` is model_1's share of the wins.
    """

    __tablename__ = "campaign_pairs"

    campaign: Mapped[str] = mapped_column(ForeignKey("campaigns.name"), primary_key=True)
    model_1: Mapped[str] = mapped_column(String(255), primary_key=True)
    model_2: Mapped[str] = mapped_column(String(255), primary_key=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"), primary_key=True)
    sample: Mapped[int] = mapped_column(primary_key=True, default=0)
    pair_id: Mapped[str | None] = mapped_column(ForeignKey("pairs.id"))
    shown: Mapped[int] = mapped_column(default=0)
    voted: Mapped[int] = mapped_column(default=0)
    points: Mapped[float] = mapped_column(default=0.0)


class GoldPairRow(Base):
    """A pair of a campaign whose better answer is known. `better`: 1 or 2."""

    __tablename__ = "gold_pairs"

    campaign: Mapped[str] = mapped_column(ForeignKey("campaigns.name"), primary_key=True)
    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"), primary_key=True)
    better: Mapped[int] = mapped_column()


class InviteRow(Base):
    """A link to a campaign, signed with the page's secret. `role`: rater, manager or viewer.

    A link for a group asks each person for a name.
    """

    __tablename__ = "invites"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    campaign: Mapped[str] = mapped_column(ForeignKey("campaigns.name"), index=True)
    role: Mapped[str] = mapped_column(String(16), default="rater")
    name: Mapped[str] = mapped_column(String(255))
    is_group: Mapped[bool] = mapped_column(default=False)
    expires: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class RaterRow(Base):
    """A person in a campaign: everything that is stored of a person, apart from the votes under `voter`.

    `link`: invite or open. `address` is a keyed hash of the network address, for open links only.
    """

    __tablename__ = "raters"

    campaign: Mapped[str] = mapped_column(ForeignKey("campaigns.name"), primary_key=True)
    voter: Mapped[str] = mapped_column(String(255), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(255))
    invite_id: Mapped[str | None] = mapped_column(ForeignKey("invites.id"), index=True)
    link: Mapped[str] = mapped_column(String(16), default="open")
    address: Mapped[str | None] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class CriterionVoteRow(Base):
    """A vote on one more criterion of a battle: left, right or tie."""

    __tablename__ = "criterion_votes"

    battle_id: Mapped[str] = mapped_column(ForeignKey("battles.id"), primary_key=True)
    criterion: Mapped[str] = mapped_column(String(64), primary_key=True)
    choice: Mapped[str] = mapped_column(String(16))


class SetAsideRow(Base):
    """Models that are not shown until a time, because they failed or named themselves.

    `model_2` is empty where one model failed, `prompt_id` where the failure is not about one prompt.
    """

    __tablename__ = "set_aside"

    campaign: Mapped[str] = mapped_column(ForeignKey("campaigns.name"), primary_key=True)
    model_1: Mapped[str] = mapped_column(String(255), primary_key=True)
    model_2: Mapped[str] = mapped_column(String(255), primary_key=True, default="")
    prompt_id: Mapped[str] = mapped_column(String(26), primary_key=True, default="")
    reason: Mapped[str] = mapped_column(Text)
    failures: Mapped[int] = mapped_column(default=1)
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class ExcludedVoterRow(Base):
    """A voter whose votes count in no rating."""

    __tablename__ = "excluded_voters"

    voter: Mapped[str] = mapped_column(String(255), primary_key=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class VoteImportRow(Base):
    """One import of a file of votes; its battles have its id.

    `votes` is counted when it is `finished`, which is None while it runs and after a kill. `undone`: its votes do not
    count, and are removed.
    """

    __tablename__ = "vote_imports"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    filename: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    format: Mapped[str] = mapped_column(String(16))
    votes: Mapped[int] = mapped_column(default=0)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    finished: Mapped[datetime | None] = mapped_column(UtcDateTime)
    undone: Mapped[datetime | None] = mapped_column(UtcDateTime)


class RecordingRow(Base):
    """A model's answers to a set of prompts, recorded so that they outlive the model.

    `prompts_hash` and `parameters_hash` identify what was asked; the same recording goes on where it stopped. `sha256`
    is the hash of all answers, set with `finished`.
    """

    __tablename__ = "recordings"
    __table_args__ = (UniqueConstraint("model", "prompts_hash", "parameters_hash", "samples"),)

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    model: Mapped[str] = mapped_column(String(255))
    prompts: Mapped[int] = mapped_column()
    prompts_hash: Mapped[str] = mapped_column(String(64))
    samples: Mapped[int] = mapped_column()
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    parameters_hash: Mapped[str] = mapped_column(String(64))
    usd: Mapped[float | None] = mapped_column()
    sha256: Mapped[str | None] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    finished: Mapped[datetime | None] = mapped_column(UtcDateTime)


class RecordedAnswerRow(Base):
    """One sample of a recorded model's answer to a prompt, from 0; `error` instead of the text where it failed.

    `logprobs`: as the API returned them, None if it did not.
    """

    __tablename__ = "recorded_answers"

    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id"), primary_key=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"), primary_key=True)
    sample: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    finish_reason: Mapped[str | None] = mapped_column(String(64))
    logprobs: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    prompt_tokens: Mapped[int | None] = mapped_column()
    completion_tokens: Mapped[int | None] = mapped_column()
    seconds: Mapped[float | None] = mapped_column()
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
