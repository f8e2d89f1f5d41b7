"""Scorers by name: each line of the catalogue works as typed, a user's functions are loaded, mistakes are reported."""

from importlib.metadata import EntryPoint
from math import isfinite
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.catalog import Answer, NamedScorer, Score, ScorerContext, catalog, named_scorer, split_names
from evals.scorers.sample import Sample
from models.errors import Invalid, NotFound, Unavailable

SAMPLE = Sample(expected="order 12", topics=(("order",),), metadata={"schema": {"type": "object"}})
ANSWER = Answer("Order 12 it is.", "mine", 0.5, 1000, 2000, "stop")
TYPED = {
    "regex": "regex:^Order", "length": "length:2-4", "embedding": "embedding:e", "cost": "cost:1/2",
    "repetition": "repetition:2", "judge": "judge:ft:gpt:org::1@general",
}  # fmt: skip


def judge(model: str, rubric: str | None) -> NamedScorer:
    name = f"judge:{model}@{rubric}"
    return NamedScorer(name, lambda samples, answers: [Score(3.0)] * len(answers), "higher", 1.0, 5.0)


TOOLS = ScorerContext(embedder=lambda model: lambda texts: [[1.0, float(len(text))] for text in texts], judge=judge)


def score(name: str, sample: Sample = SAMPLE, answer: Answer = ANSWER) -> Score:
    return named_scorer(name, TOOLS).score([sample], [answer])[0]


@pytest.mark.parametrize("kind", catalog(), ids=lambda kind: kind.name)
def test_every_kind_scores_within_its_range(kind) -> None:
    scorer = named_scorer(TYPED.get(kind.name, kind.name), TOOLS)
    (score,) = scorer.score([SAMPLE], [ANSWER])
    assert score.error is None
    assert score.value is not None
    assert scorer.low <= score.value <= scorer.high
    assert kind.typed.startswith(kind.name)


@given(st.text(alphabet=st.characters()), st.none() | st.text(alphabet=st.characters(), max_size=20))
def test_scorers_never_raise(text: str, expected: str | None) -> None:
    sample, answer = Sample(expected=expected, topics=(("order",),)), Answer(text)
    for kind in catalog():
        scorer = named_scorer(TYPED.get(kind.name, kind.name), TOOLS)
        (score,) = scorer.score([sample], [answer])
        assert score.error is None
        assert score.value is None or (scorer.low <= score.value <= scorer.high and isfinite(score.value))


def test_a_judge_is_named_with_its_rubric_after_the_last_at() -> None:
    assert named_scorer("judge:ft:gpt:org::1@general", TOOLS).name == "judge:ft:gpt:org::1@general"
    assert named_scorer("judge:a@b@mine.md", TOOLS).name == "judge:a@b@mine.md"
    assert named_scorer("judge:plain", TOOLS).name == "judge:plain@None"
    for wrong in ("judge", "judge:", "judge:@general", "judge:model@"):
        with pytest.raises(Invalid, match="judge:MODEL@RUBRIC"):
            named_scorer(wrong, TOOLS)
    with pytest.raises(Invalid, match="running gateway"):
        named_scorer("judge:model")


def test_a_comma_separates_only_before_a_scorers_name() -> None:
    assert split_names(["exact, regex:^a,b$,length:5-40,my/own.py:polite", "exact", "cost:a=1/2;b=2/3"]) == [
        "exact", "regex:^a,b$", "length:5-40", "my/own.py:polite", "cost:a=1/2;b=2/3",
    ]  # fmt: skip
    assert split_names(["regex:exactly,exact"]) == ["regex:exactly", "exact"]


def test_cost_latency_and_tokens_come_from_the_answer() -> None:
    assert score("cost:1/2").value == pytest.approx(0.005)
    assert score("cost:mine=10/0;other=1/1").value == pytest.approx(0.01)
    assert score("cost:other=1/1").value is None
    assert score("cost:1/2", answer=Answer("x")).value is None
    assert (score("latency").value, score("tokens").value) == (0.5, 2000.0)


@pytest.mark.parametrize(
    "name",
    [
        "nobody", "exact:1", "regex", "regex:(", "length:9-2", "length", "repetition:0", "cost:free", "embedding",
        "schema:/dev/null",
    ],
)  # fmt: skip
def test_a_wrong_name_or_argument_is_a_one_line_error(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        named_scorer(name)
    assert "\n" not in str(caught.value)


OWN = """
def polite(sample, answer):
    if answer == "raise":
        raise KeyError("oops")
    return {"none": None, "text": "yes", "nan": float("nan"), "true": True}.get(answer, len(answer))
not_callable = 3
"""


def test_ones_own_function_by_path(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    scorer = named_scorer(f"{path}:polite")
    scores = scorer.score([Sample()] * 6, [Answer(text) for text in ("raise", "none", "text", "nan", "true", "four")])
    assert [score.value for score in scores] == [None, None, None, None, 1.0, 4.0]
    assert [bool(score.error) for score in scores] == [True, False, True, True, False, False]
    assert "KeyError" in str(scores[0].error)
    for wrong in ("none", "not_callable"):
        with pytest.raises((NotFound, Invalid)):
            named_scorer(f"{path}:{wrong}")
    path.write_text("1 / 0")
    with pytest.raises(Invalid, match="ZeroDivisionError"):
        named_scorer(f"{path}:polite")
    with pytest.raises(NotFound, match="no file"):
        named_scorer(f"{tmp_path}/none.py:polite")


def test_ones_own_function_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creates what an installed package is: a folder with its metadata on the path."""
    (tmp_path / "ownpack.py").write_text("def kind(sample, answer):\n    return 'please' in answer\n")
    info = tmp_path / "ownpack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ownpack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[parley.scorers]\nkindness = ownpack:kind\nlost = nowhere:none\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    scorer: NamedScorer = named_scorer("kindness")
    assert scorer.score([Sample()], [Answer("yes please")]) == [Score(1.0)]
    assert split_names(["regex:a,kindness"]) == ["regex:a", "kindness"]
    with pytest.raises(Invalid, match="cannot be loaded"):
        named_scorer("lost")
    assert EntryPoint("kindness", "ownpack:kind", "parley.scorers").load()


def test_an_unreachable_embedding_model_is_reported_and_other_scorers_run() -> None:
    def embedder(model: str):
        def embed(texts):
            raise Unavailable("no embeddings here")

        return embed

    scores = named_scorer("embedding:e", ScorerContext(embedder)).score([SAMPLE], [ANSWER])
    assert scores == [Score(None, "no embeddings here")]
    with pytest.raises(Invalid, match="running gateway"):
        named_scorer("embedding:e")
