"""Scores of a base's and a tuned model's answers to support requests, with the human answers as the reference."""

from collections.abc import Sequence
from typing import Any

from bench.evals import bitext
from bench.evals.bitext import Parts, Request
from evals.scorers.sample import Sample, Scorer
from evals.scorers.score_summary import ScoreSummary, paired_difference, score_all
from evals.scorers.text_match import length, repetition, topic_coverage, word_count

_TOPIC_WORDS = 6  # words per intent
_EXAMPLES, _EXAMPLE_LENGTH = 3, 400  # characters


def score_answers(
    parts: Parts, requests: Sequence[Request], base: Sequence[str | None], tuned: Sequence[str | None]
) -> dict[str, Any]:
    """The scores of both models and of the human answers, the paired differences, and the first answers as examples.

    Args:
        parts: the split data; the scorers are learned from its training part.
        requests: the questions. base, tuned: each model's answers to them; None for a failed one.
    """
    marks = bitext.marking_words(parts.training, _TOPIC_WORDS)
    samples = [
        Sample(r.question, expected=r.answer, topics=tuple((word,) for word in marks[r.intent]), category=r.intent)
        for r in requests
    ]
    scorers: dict[str, Scorer] = {
        "intent": bitext.intent_scorer(parts.training),
        "topics": topic_coverage(),
        "overlap": bitext.overlap_scorer(),
        "length": length(30, 250),
        "repetition": repetition(),
        "words": word_count(),
    }
    answers = {"base": base, "tuned": tuned, "people": [request.answer for request in requests]}
    return {
        "scores": {name: _rounded(score_all(samples, given, scorers)) for name, given in answers.items()},
        "tuned_minus_base": _rounded(
            {name: paired_difference(samples, base, tuned, scorer) for name, scorer in scorers.items()}
        ),
        "examples": [
            {
                "question": request.question,
                "base": (of_base or "")[:_EXAMPLE_LENGTH],
                "tuned": (of_tuned or "")[:_EXAMPLE_LENGTH],
                "people": request.answer,
            }
            for request, of_base, of_tuned in list(zip(requests, base, tuned, strict=True))[:_EXAMPLES]
        ],
    }


def _rounded(scores: dict[str, ScoreSummary]) -> dict[str, dict[str, float | int | None]]:
    """Means and intervals, rounded to four digits."""
    return {
        name: {key: round(value, 4) if isinstance(value, float) else value for key, value in summary.to_json().items()}
        for name, summary in scores.items()
    }
