"""How to read a file of votes, and what to do with votes that an earlier file had."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from evals.campaign_tables import OPEN_CAMPAIGN
from evals.votes.imports.choices import Scale
from models.errors import Invalid

VoteFormat = Literal["csv", "jsonl", "fastchat", "openwebui", "labelstudio", "argilla"]
FORMATS: tuple[str, ...] = get_args(VoteFormat)
Overlap = Literal["keep", "drop"]
# Our name for a column → the names in files; the first that is present is used.
COLUMNS: dict[str, tuple[str, ...]] = {
    "model_a": ("model_a", "left", "model_left", "left_model", "model_1"),
    "model_b": ("model_b", "right", "model_right", "right_model", "model_2"),
    "winner": ("winner", "choice", "vote", "label"),
    "messages": ("messages",),
    "prompt": ("prompt", "question", "instruction", "prompt_id", "question_id"),
    "answer_a": ("answer_a", "response_a", "left_answer", "answer_1", "answer1"),
    "answer_b": ("answer_b", "response_b", "right_answer", "answer_2", "answer2"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "chosen_model": ("chosen_model", "chosen-model", "model_chosen"),
    "rejected_model": ("rejected_model", "rejected-model", "model_rejected"),
    "voter": ("voter", "judge", "user", "user_id", "annotator", "rater"),
    "again": ("again",),
    "category": ("category",),
    "id": ("id", "vote_id", "battle_id"),
    "created": ("created", "created_at", "timestamp", "tstamp"),
}


@dataclass(frozen=True)
class ImportOptions:
    """How to read a file of votes, and where its votes go.

    Attributes:
        form: the format; detected by default.
        columns: our name for a column → the file's, for CSV and JSONL.
        each_its_own_prompt: treat each vote as a prompt of its own, if the file has no prompts.
        winners: the file's words for the winner → left, right, tie or both_bad; in lower case.
        scale: reads graded preferences.
        annotators: columns with one person's winner each; `*` stands for any characters.
        separator: between the cells of a CSV; detected by default.
        encoding: of the text; by default UTF-8, or UTF-16 where the file has its mark.
        use_ids: whether an id column may name votes.
        any_date: also take votes from before 2015 or after tomorrow.
        overlap: what to do with votes that an earlier file had: count them again, or leave them out.
        campaign: the campaign that the votes go to.
    """

    form: VoteFormat | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    each_its_own_prompt: bool = False
    winners: Mapping[str, str] = field(default_factory=dict)
    scale: Scale | None = None
    annotators: tuple[str, ...] = ()
    separator: str | None = None
    encoding: str | None = None
    use_ids: bool = True
    any_date: bool = False
    overlap: Overlap | None = None
    campaign: str = OPEN_CAMPAIGN

    def __post_init__(self) -> None:
        if self.form is not None and self.form not in FORMATS:
            raise Invalid(f"The format must be one of {', '.join(FORMATS)}, not {self.form!r}.", param="format")
        if self.overlap not in (None, *get_args(Overlap)):
            raise Invalid(f"--overlap must be keep or drop, not {self.overlap!r}.", param="overlap")
        if unknown := set(self.columns) - set(COLUMNS):
            raise Invalid(
                f"{min(unknown)!r} is not a column of votes. Use one of: {', '.join(COLUMNS)}.", param="columns"
            )
        if self.separator is not None and len(self.separator) != 1:
            raise Invalid(f"The separator must be one character, not {self.separator!r}.", param="separator")
