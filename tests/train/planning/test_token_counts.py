"""Token counts: by OpenAI's rule, compared with its published figures; by a model's template; and estimated."""

from pathlib import Path
from typing import Any

import pytest

from models.errors import Invalid
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream
from train.data.checks import check
from train.data.conversations import Conversation, Example, ToolCall, ToolResult, ToolUse
from train.data.lengths import Bin, histogram, spread
from train.planning.token_counts import count, estimate, estimate_tokens
from train.trainers.tokens import tokenise

SHARED = Path(__file__).parents[4] / "shared" / "data"
ROWS = [
    {"messages": [{"role": "user", "content": "hi " * n}, {"role": "assistant", "content": "hello there " * n}]}
    for n in range(1, 21)
]


@pytest.fixture
def vocabularies(monkeypatch: pytest.MonkeyPatch) -> None:
    """tiktoken's vocabularies, from a folder beside the checkout."""
    folder = SHARED / "tiktoken-cache"
    if not folder.is_dir():
        pytest.skip("needs tiktoken's vocabularies in ../shared/data/tiktoken-cache")
    _forget(monkeypatch)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))


@pytest.fixture
def no_vocabularies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and a proxy that refuses: no download can succeed."""
    _forget(monkeypatch)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "empty"))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken.registry

    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})


@pytest.mark.usefixtures("vocabularies")
def test_openai_s_own_example_gives_the_figures_that_their_cookbook_prints() -> None:
    data = SHARED / "openai_chat" / "toy_chat_fine_tuning.jsonl"
    if not data.is_file():
        pytest.skip("needs ../shared/data/openai_chat")
    counts = count(data, "gpt-3.5-turbo", limit=4096)
    # github.com/openai/openai-cookbook, Chat_finetuning_data_prep.ipynb: totals, assistant's tokens, what is billed
    assert (counts.spread.smallest, counts.spread.largest) == (26, 8032)
    assert (counts.spread.mean, counts.spread.median) == (1648.4, 45)
    assert (counts.learnt_spread.smallest, counts.learnt_spread.largest, counts.learnt_spread.mean) == (4, 8000, 1610.2)
    assert len(counts.over_limit) == 1
    assert counts.tokens - counts.beyond_limit == 4306


@pytest.mark.long
@pytest.mark.usefixtures("vocabularies")
def test_weight_0_is_counted_but_not_as_learnt() -> None:
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "not learnt", "weight": 0},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "yes"},
    ]
    counts = count([{"messages": turns}], "gpt-4o-mini")
    assert counts.learnt_tokens == 1
    assert counts.tokens == 4 * 3 + 3 + 4 + (1 + 2 + 1 + 1)  # overhead, reply, roles, texts


@pytest.mark.long
@pytest.mark.usefixtures("vocabularies")
@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4.1-nano-2025-04-14", "o200k_base"),
        ("ft:gpt-4.1-mini-2025-04-14:acme::1", "o200k_base"),
        ("ft:gpt-3.5-turbo-0125:acme:x:2", "cl100k_base"),
        ("openai/gpt-4o-mini", "o200k_base"),
    ],
)
def test_a_fine_tune_has_the_vocabulary_of_its_base(model: str, vocabulary: str) -> None:
    counts = count(ROWS, model)
    assert counts.way == "tiktoken"
    assert vocabulary in counts.how


@pytest.mark.long
@pytest.mark.usefixtures("vocabularies")
def test_an_openai_model_that_nobody_knows_is_an_estimate_and_says_so() -> None:
    counts = count(ROWS, "gpt-99-imaginary")
    assert counts.way == "estimate"
    assert "gpt-99-imaginary" in counts.how
    assert counts.to_json()["estimate"] is True


@pytest.mark.long
@pytest.mark.usefixtures("vocabularies")
def test_tools_and_calls_are_counted_and_the_method_is_shown() -> None:
    question, answer = check(ROWS[:1]).examples[0].conversation.messages
    call = ToolUse(content="A moment.", calls=(ToolCall("c", "find", '{"id": 1}'),))
    tool = '{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}'
    tooled = Conversation((question, call, ToolResult("found", "c"), answer), (tool,))
    without, with_tools = count(ROWS[:1], "gpt-4o"), count([Example(1, tooled)], "gpt-4o")
    assert with_tools.learnt_tokens > without.learnt_tokens
    assert with_tools.tokens > with_tools.learnt_tokens + 3 * 4 + 3
    assert "tools are counted as JSON" in with_tools.how


@pytest.mark.usefixtures("no_vocabularies")
def test_reasoning_is_learnt_and_counted() -> None:
    answer = {"role": "assistant", "content": "4"}
    rows = [{"messages": [{"role": "user", "content": "2+2?"}, answer | more]} for more in
            ({}, {"reasoning_content": "Two and two make four, as everybody knows. " * 20})]  # fmt: skip
    plain, reasoned = estimate(check(rows, provider="local"), "some-model").lengths
    assert reasoned.learnt > plain.learnt + 100
    assert reasoned.tokens - plain.tokens == reasoned.learnt - plain.learnt


def test_without_a_vocabulary_it_is_an_estimate_and_says_how() -> None:
    counts = count(ROWS, "gpt-4o-mini")
    assert counts.way == "estimate"
    assert "TIKTOKEN_CACHE_DIR" in counts.how
    assert counts.tokens > 0


@pytest.mark.long
@pytest.mark.usefixtures("vocabularies")
def test_the_estimate_is_as_far_off_as_it_says() -> None:
    data = SHARED / "bitext" / "bitext_20230818.csv"
    if not data.is_file():
        pytest.skip("needs ../shared/data/bitext")
    from train.data.readers import Columns

    examples = check(data, Columns("instruction", "response")).examples
    texts = [message.content for example in examples for message in example.conversation.messages]
    import tiktoken

    real = sum(len(tiktoken.get_encoding("o200k_base").encode(text)) for text in texts)
    assert sum(map(estimate_tokens, texts)) / real == pytest.approx(1.24, abs=0.02)


def test_letters_of_all_scripts_can_be_estimated() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("four") == 1
    assert estimate_tokens("私の注文はどこですか?昨日届くはずでした。") == pytest.approx(16, abs=2)  # 16 in o200k_base
    assert estimate_tokens("Где мой заказ? Он должен был прийти вчера.") == pytest.approx(12, abs=2)


def test_a_local_model_is_counted_as_training_counts_it(tiny_base: Path, tokenizer: Any) -> None:
    counts = count(ROWS, tiny_base)
    rows = tokenise(check(ROWS).examples, tokenizer, 10**9).rows
    assert counts.way == "own tokenizer"
    assert [length.tokens for length in counts.lengths] == [len(row.input_ids) for row in rows]
    assert counts.learnt_tokens == sum(row.learnt for row in rows)
    assert counts.limit == 2048  # the base's own context


def test_rows_over_the_limit_are_named(tiny_base: Path) -> None:
    counts = count(ROWS, tiny_base, limit=200)
    assert counts.over_limit
    assert counts.to_json()["over_limit_lines"] == [length.line for length in counts.over_limit]
    assert counts.beyond_limit == sum(length.tokens - 200 for length in counts.over_limit)
    assert len(counts.to_json(lines=True)["lengths"]) == 20


@pytest.mark.long
def test_a_base_whose_tokenizer_is_not_here_is_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no minute of retries
    counts = count(ROWS, "nobody/has-this-model")
    assert counts.way == "estimate"
    assert "nobody/has-this-model" in counts.how


def test_a_hosted_model_is_counted_by_what_it_is_upstream(house: tuple[Settings, Registry]) -> None:
    registry = house[1]
    upstream = Upstream(base_url="http://127.0.0.1:9/v1", model="claude-of-somebody")
    registry.register(ModelSpec(id="counted-hosted", kind="hosted", upstream=upstream))
    assert count(ROWS, "counted-hosted", registry=registry).way == "estimate"
    assert count(ROWS, "tiny", registry=registry).way == "own tokenizer"


def test_nothing_to_count_is_one_line() -> None:
    with pytest.raises(Invalid, match="Every example has errors"):
        count([], "gpt-4o")


def test_percentiles_are_lengths_that_some_example_has() -> None:
    percentiles = spread(list(range(1, 101)))
    assert (
        percentiles.smallest,
        percentiles.p5,
        percentiles.median,
        percentiles.p95,
        percentiles.p99,
        percentiles.largest,
    ) == (1, 5, 50, 95, 99, 100)
    assert percentiles.mean == 50.5
    assert spread([7]).p99 == 7


def test_a_histogram_has_round_bars_and_holds_every_example() -> None:
    values = [*range(100, 400), 90_000]
    bars = histogram(values)
    assert sum(bar.examples for bar in bars) == len(values)
    assert bars[0] == Bin(100, 150, 50)
    assert bars[-1] == Bin(400, None, 1)  # one huge example does not squeeze the others into one bar
    assert histogram([]) == ()
    assert histogram([0, 0]) == (Bin(0, 1, 2),)
