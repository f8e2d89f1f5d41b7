"""Scorers that compare an answer with the expected one: ROUGE-L, BLEU, chrF, embedding similarity.

BLEU and chrF are sacrebleu's sentence scores (smoothed, averaged over answers), not the corpus scores of translation
papers. ROUGE-L (Lin 2004, aclanthology.org/W04-1013) is the F-measure over the longest common subsequence of words, by
RapidFuzz; on English text it equals `rouge-score` without a stemmer, which drops every letter outside a–z.
"""

import re
from collections.abc import Callable, Sequence
from math import sqrt

from evals.scorers.sample import Sample, Scorer
from models.errors import Invalid

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Vectors for texts, in their order. Raises ParleyError if the model cannot be reached."""

BatchScorer = Callable[[Sequence[Sample], Sequence[str]], list[float | None]]
"""Scores of many answers at once, for scorers that call a model."""

_WORD = re.compile(r"[^\W_]+")
_BATCH = 64  # texts in one request to an embedding model
_MAX_CHARACTERS = 8_000  # of one text: more exceeds most embedding models' context


def rouge_l() -> Scorer:
    """ROUGE-L's F-measure, 0 to 1, against the best of the accepted answers."""

    def score(sample: Sample, answer: str) -> float | None:
        from rapidfuzz.distance import LCSseq

        if not sample.accepted:
            return None
        words = split_words(answer)
        best = 0.0
        for right in sample.accepted:
            wanted = split_words(right)
            if words and wanted:
                best = max(best, 2 * LCSseq.similarity(words, wanted) / (len(words) + len(wanted)))
        return best

    return score


def bleu() -> Scorer:
    """Sentence BLEU, 0 to 1, with effective order (Papineni et al. 2002; Post 2018, arXiv:1804.08771)."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(effective_order=True)

    def score(sample: Sample, answer: str) -> float | None:
        if not sample.accepted:
            return None
        return _share(metric.sentence_score(answer, list(sample.accepted)).score)

    return score


def chrf() -> Scorer:
    """chrF, 0 to 1: overlap of character n-grams (Popović 2015). It needs no words, so it works for any language."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()

    def score(sample: Sample, answer: str) -> float | None:
        if not sample.accepted:
            return None
        return _share(metric.sentence_score(answer, list(sample.accepted)).score)

    return score


def embedding_similarity(embed: Embed) -> BatchScorer:
    """The cosine similarity of the answer with the nearest accepted answer, −1 to 1.

    None for an empty text, and for a text that the model refuses, such as one that is too long.
    """

    def score(samples: Sequence[Sample], answers: Sequence[str]) -> list[float | None]:
        wanted = [text[:_MAX_CHARACTERS] for sample in samples for text in sample.accepted]
        texts = sorted({text for text in (*wanted, *(answer[:_MAX_CHARACTERS] for answer in answers)) if text.strip()})
        vectors: dict[str, Sequence[float]] = {}
        for start in range(0, len(texts), _BATCH):
            part = texts[start : start + _BATCH]
            vectors |= _embedded(embed, part)
        if texts and not vectors:
            embed(texts[:1])  # every text was refused: raise the reason
        return [_nearest(sample, answer, vectors) for sample, answer in zip(samples, answers, strict=True)]

    return score


def _embedded(embed: Embed, texts: Sequence[str]) -> dict[str, Sequence[float]]:
    """The vectors of these texts; a refused text does not affect the others."""
    try:
        return dict(zip(texts, embed(texts), strict=True))
    except Invalid:
        if len(texts) == 1:
            return {}
        half = len(texts) // 2
        return _embedded(embed, texts[:half]) | _embedded(embed, texts[half:])


def _nearest(sample: Sample, answer: str, vectors: dict[str, Sequence[float]]) -> float | None:
    vector = vectors.get(answer[:_MAX_CHARACTERS])
    if vector is None:
        return None
    cosines = [
        _cosine(vector, vectors[text[:_MAX_CHARACTERS]])
        for text in sample.accepted
        if text[:_MAX_CHARACTERS] in vectors
    ]
    return max((value for value in cosines if value is not None), default=None)


def _cosine(left: Sequence[float], right: Sequence[float]) -> float | None:
    length = sqrt(sum(x * x for x in left)) * sqrt(sum(y * y for y in right))
    if not length:
        return None
    return max(-1.0, min(1.0, sum(x * y for x, y in zip(left, right, strict=True)) / length))


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def _share(percent: float) -> float:
    return max(0.0, min(1.0, percent / 100))
