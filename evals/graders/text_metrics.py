"""The metrics of `text_similarity`, 0 to 1. `cosine` needs a served embedding model and is in `grading`.

- fuzzy_match: RapidFuzz's `ratio`, the normalised InDel similarity of the characters.
- bleu: sacrebleu's sentence BLEU with effective order.
- gleu: Google BLEU (Wu et al. 2016, arXiv:1609.08144): matches of 1- to 4-grams of the words that are separated by
  spaces, divided by the larger number of n-grams. As NLTK's `sentence_gleu`.
- meteor: Lavie and Agarwal 2007, with exact words and Porter stems, as NLTK's `meteor_score` without WordNet
  synonyms.
- rouge_1 to rouge_5, rouge_l: F-measures, as `rouge-score` without a stemmer.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

from evals.scorers.reference_similarity import bleu, rouge_l, split_words
from evals.scorers.sample import Sample

_GLEU_ORDER = 4
_ALPHA, _BETA, _GAMMA = 0.9, 3.0, 0.5  # METEOR's weights


def text_similarity(metric: str, text: str, reference: str) -> float:
    """A metric of `evals.graders.shapes.Metric` other than cosine, 0 to 1."""
    if metric.startswith("rouge_") and metric != "rouge_l":
        return rouge_n(text, reference, int(metric[-1]))
    return _METRICS[metric](text, reference)


def rouge_n(text: str, reference: str, order: int) -> float:
    """The F-measure of common n-grams of words."""
    found, wanted = _grams(split_words(text), order), _grams(split_words(reference), order)
    common = (found & wanted).total()
    return 2 * common / (found.total() + wanted.total()) if common else 0.0


def gleu(text: str, reference: str) -> float:
    """Google BLEU of one sentence."""
    found: Counter[tuple[str, ...]] = Counter()
    wanted: Counter[tuple[str, ...]] = Counter()
    for order in range(1, _GLEU_ORDER + 1):
        found += _grams(text.split(), order)
        wanted += _grams(reference.split(), order)
    most = max(found.total(), wanted.total())
    return (found & wanted).total() / most if most else 0.0


def meteor(text: str, reference: str) -> float:
    """METEOR of one sentence, by exact words and then by stems."""
    import snowballstemmer

    stem = snowballstemmer.stemmer("porter").stemWord
    found = list(enumerate(text.lower().split()))
    wanted = list(enumerate(reference.lower().split()))
    exact, left, wanted_left = _align(found, wanted)
    stems, _, _ = _align(
        [(place, stem(word)) for place, word in left], [(place, stem(word)) for place, word in wanted_left]
    )
    matches = sorted(exact + stems)
    if not matches:
        return 0.0
    precision, recall = len(matches) / len(found), len(matches) / len(wanted)
    mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    chunks = 1 + sum(after != (place + 1, other + 1) for (place, other), after in pairwise(matches))
    return mean * (1 - _GAMMA * (chunks / len(matches)) ** _BETA)


def _fuzzy_match(text: str, reference: str) -> float:
    from rapidfuzz import fuzz

    return fuzz.ratio(text, reference) / 100


def _bleu(text: str, reference: str) -> float:
    return bleu()(Sample(expected=reference), text) or 0.0


def _rouge_l(text: str, reference: str) -> float:
    return rouge_l()(Sample(expected=reference), text) or 0.0


_METRICS: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": _fuzzy_match,
    "bleu": _bleu,
    "gleu": gleu,
    "meteor": meteor,
    "rouge_l": _rouge_l,
}


def _grams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


_Word = tuple[int, str]


def _align(found: Sequence[_Word], wanted: Sequence[_Word]) -> tuple[list[tuple[int, int]], list[_Word], list[_Word]]:
    """Pairs of places with equal words, from the end, as NLTK aligns them; and the words that are left on each side."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, (_, word) in enumerate(wanted):
        places[word].append(index)
    pairs, used, used_wanted = [], set(), set()
    for index in reversed(range(len(found))):
        if indexes := places.get(found[index][1]):
            other = indexes.pop()
            pairs.append((found[index][0], wanted[other][0]))
            used.add(index)
            used_wanted.add(other)
    left = [word for index, word in enumerate(found) if index not in used]
    return pairs, left, [word for index, word in enumerate(wanted) if index not in used_wanted]
