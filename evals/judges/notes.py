"""Notes on a judge for the reader of its results: a toy, a related model, its agreement with people."""

from collections.abc import Mapping, Sequence

from evals.judges.human_agreement import agreement_by_category, describe_trust
from evals.judges.labelled_pairs import load_labelled_pairs
from evals.judges.model_families import related_models
from evals.judges.rubric import LIKELIHOOD_RUBRIC
from models.chat.judge_prompt import Rubric
from models.database import Database
from models.registry.registry import Registry
from models.spec import ModelSpec


def agreement_note(database: Database, judge: str, rubric: Rubric) -> str:
    """What people's votes say about trusting this judge with this rubric."""
    agreement = agreement_by_category(load_labelled_pairs(database, judge, rubric.hash))
    if not agreement:
        return (
            f"{judge}'s agreement with people by the rubric {rubric.name} is not known: collect votes at /vote, then "
            f"run `parley judge calibrate {judge} --rubric {rubric.name}`."
        )
    return describe_trust(judge, agreement)


def rubric_notes(rubric: Rubric) -> list[str]:
    """What a reader of verdicts by this rubric should know."""
    if rubric.hash != LIKELIHOOD_RUBRIC.hash:
        return []
    return [
        "By the rubric likelihood, the answer wins whose tokens the judge finds more likely. It ignores what a rubric "
        "or a reference would say, and favours fluent and repetitive text."
    ]


def judge_notes(database: Database, judge: ModelSpec, models: Sequence[ModelSpec]) -> list[str]:
    """Whether the judge is a toy, and which of the models are of its own family."""
    by_id: Mapping[str, ModelSpec] = {
        spec.id: spec for spec in Registry(database).list(include_candidates=True, include_retired=True)
    }
    notes = []
    if judge.toy:
        notes.append(f"{judge.id} is a toy: it shows how judging works, not which model is better.")
    notes += [
        f"{judge.id} is of the same family as {name} ({relation}): judges tend to favour their own family."
        for name, relation in related_models(judge, tuple(models), by_id)
    ]
    return notes
