"""The length of training data in a model's own tokens: all of them, and those with loss.

Three methods, in this order; the result says which was used:

1. a model with weights here (registered, a folder, a hub id): its own tokenizer and chat template, as in training;
2. an OpenAI model: tiktoken, with OpenAI's published overhead of 3 tokens a message and 3 for the reply
   (github.com/openai/openai-cookbook, examples/How_to_count_tokens_with_tiktoken.ipynb);
3. without the vocabulary: an estimate from the length of the text.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal

from models.errors import Invalid, NotFound, ParleyError
from train.data.checks import Data, check
from train.data.conversations import ChatMessage, Conversation, Example, ToolResult, ToolUse, reasoning_of
from train.data.lengths import Bin, Spread, histogram, spread
from train.data.readers import Columns
from train.data.reports import CheckedData

if TYPE_CHECKING:
    from models.registry.registry import Registry
    from models.spec import ModelSpec

Way = Literal["own tokenizer", "tiktoken", "estimate"]
_PER_MESSAGE, _PER_NAME, _PER_REPLY = 3, 1, 3  # OpenAI's cookbook, for gpt-3.5-turbo and everything since
_NEWEST = "o200k_base"  # OpenAI's newest published vocabulary
_LETTERS_PER_TOKEN = 4.0  # help.openai.com/articles/4936856: about four characters of English
_WIDE_LETTERS_PER_TOKEN = 1.3  # Chinese and Japanese, in o200k_base
_DOWNLOAD_S = 30.0
_ENDLESS = 1 << 40  # a limit that no row reaches: lengths are counted first and compared with the limit later


@dataclass(frozen=True)
class Length:
    """The tokens of one example: all of them, and those with loss. `line` is its first line in the file."""

    line: int
    tokens: int
    learnt: int


@dataclass(frozen=True)
class Counts:
    """The lengths of a data set for one model.

    `way` and `how` are the counting method; for an estimate `way` is "estimate". `limit` is the most tokens that the
    model trains on in one example. `refused` has the lines that the chat template cannot render; training leaves them
    out.
    """

    model: str
    way: Way
    how: str
    lengths: tuple[Length, ...]
    limit: int | None = None
    refused: tuple[int, ...] = ()

    @property
    def examples(self) -> int:
        """The number of counted examples."""
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """All tokens, including those of the chat template."""
        return sum(length.tokens for length in self.lengths)

    @property
    def learnt_tokens(self) -> int:
        """The tokens with loss: the assistant's."""
        return sum(length.learnt for length in self.lengths)

    @property
    def over_limit(self) -> tuple[Length, ...]:
        """The examples that are longer than the limit."""
        return tuple(length for length in self.lengths if self.limit is not None and length.tokens > self.limit)

    @property
    def beyond_limit(self) -> int:
        """The tokens beyond the limit, over all examples."""
        return sum(length.tokens - (self.limit or 0) for length in self.over_limit)

    @property
    def spread(self) -> Spread:
        """Percentiles of all tokens of an example."""
        return spread([length.tokens for length in self.lengths])

    @property
    def learnt_spread(self) -> Spread:
        """Percentiles of the tokens with loss of an example."""
        return spread([length.learnt for length in self.lengths])

    @property
    def histogram(self) -> tuple[Bin, ...]:
        """A histogram of all tokens of an example, with at most 12 bars of one width."""
        return histogram([length.tokens for length in self.lengths])

    def to_json(self, *, lines: bool = False) -> dict[str, Any]:
        """For programs; with `lines` also the length of each example."""
        whole: dict[str, Any] = {
            "model": self.model,
            "way": self.way,
            "how": self.how,
            "estimate": self.way == "estimate",
            "examples": self.examples,
            "tokens": self.tokens,
            "learnt_tokens": self.learnt_tokens,
            "limit": self.limit,
            "over_limit": len(self.over_limit),
            "over_limit_lines": [length.line for length in self.over_limit],
            "beyond_limit": self.beyond_limit,
            "refused_lines": list(self.refused),
            "per_example": asdict(self.spread),
            "learnt_per_example": asdict(self.learnt_spread),
            "histogram": [asdict(bar) for bar in self.histogram],
        }
        return whole | ({"lengths": [asdict(length) for length in self.lengths]} if lines else {})


def count(
    data: Data | CheckedData,
    model: str | Path,
    *,
    registry: "Registry | None" = None,
    columns: Columns | None = None,
    limit: int | None = None,
    fetch: bool = True,
) -> Counts:
    """Counts the tokens of training data as `model` would see them.

    Args:
        data: as `check` takes it, or its result. Examples with errors are not counted, because they are not trained on.
        model: a registered model, a folder, a hub id, or an OpenAI model (also `ft:…`).
        registry: where registered models are looked up.
        columns: names the columns of a CSV.
        limit: the most tokens an example may have. Default, for a model with weights here: the limit of `train`.
        fetch: download a missing tokenizer from the hub; otherwise the counts are an estimate.

    Raises:
        Invalid: no example without errors, or an invalid model name. NotFound: no such file.
    """
    checked = data if isinstance(data, CheckedData) else check(data, columns)
    examples = checked.examples or _both_sides(checked)
    if not examples:
        raise Invalid("Every example has errors. Run `parley data check` to see how to fix them.", param="data")
    name = str(model)
    spec = _registered(name, registry)
    hosted = spec.upstream.model if spec is not None and spec.upstream is not None else None
    vocabulary = _vocabulary(hosted or name) if spec is None or hosted else None
    if vocabulary is not None:
        return _by_tiktoken(examples, hosted or name, vocabulary, limit)
    if hosted:
        return _estimated(examples, hosted, f"the vocabulary of the hosted model {name} is unknown", limit)
    return _by_tokenizer(examples, name, registry, limit, fetch)


def estimate(checked: CheckedData, model: str) -> Counts:
    """An estimate of the tokens for a model whose vocabulary is unknown. `checked` has examples or pairs."""
    return _estimated(checked.examples or _both_sides(checked), model, f"the vocabulary of {model} is unknown", None)


def _both_sides(checked: CheckedData) -> tuple[Example, ...]:
    """Preference pairs as in training: the prompt with each of its two answers."""
    return tuple(
        Example(pair.line, Conversation((*pair.prompt, *answer), pair.tools))
        for pair in checked.preferences
        for answer in (pair.chosen, pair.rejected)
    )


def _by_line(lengths: Iterable[Length]) -> tuple[Length, ...]:
    """One length for each line: an example may have several rows (one a turn), and a pair has two."""
    totals: dict[int, Length] = {}
    for length in lengths:
        before = totals.get(length.line, Length(length.line, 0, 0))
        totals[length.line] = Length(length.line, before.tokens + length.tokens, before.learnt + length.learnt)
    return tuple(totals.values())


def _registered(name: str, registry: "Registry | None") -> "ModelSpec | None":
    try:
        return registry.resolve(name) if registry is not None else None
    except NotFound:
        return None


def _vocabulary(model: str) -> str | None:
    """tiktoken's vocabulary for an OpenAI model; "" if tiktoken does not list the model, None for other models."""
    from tiktoken.model import encoding_name_for_model

    parts = model.split(":")
    # The base, not the fine-tune: to tiktoken `ft:gpt-4.1-…` starts with `ft:gpt-4`, which has another vocabulary.
    base = parts[1] if parts[0] == "ft" and len(parts) > 1 else model
    base = re.sub(r"^(?:openai|azure)/(?!gpt-oss)", "", base)  # as routers and Azure name OpenAI's models
    if "/" in base:
        return None
    try:
        return encoding_name_for_model(base)
    except KeyError:
        return "" if base.startswith(("gpt-", "chatgpt-")) else None


def _by_tiktoken(examples: Sequence[Example], model: str, vocabulary: str, limit: int | None) -> Counts:
    name = vocabulary or _NEWEST
    try:
        encoding = _encoding(name)
    except Exception as error:  # from its download: no network, a proxy, a broken cache
        reason = f"the vocabulary {name} could not be downloaded ({type(error).__name__}); "
        return _estimated(examples, model, reason + "set TIKTOKEN_CACHE_DIR to a folder that has it", limit)
    how = f"tiktoken's {name}, with OpenAI's overhead of {_PER_MESSAGE} tokens a message and {_PER_REPLY} a reply"
    if not vocabulary:
        how = f"an estimate, because tiktoken has no vocabulary for {model}: {how}"
    if any(example.conversation.tools for example in examples):
        how += "; tools are counted as JSON, which is close to OpenAI's count but not the same"
    lengths = _by_rule(examples, lambda text: len(encoding.encode(text, disallowed_special=())))
    return Counts(model, "tiktoken" if vocabulary else "estimate", how, lengths, limit)


def _estimated(examples: Sequence[Example], model: str, why: str, limit: int | None) -> Counts:
    try:
        encoding = _encoding(_NEWEST)
    except Exception:  # as above
        how = (
            f"an estimate, because {why}: one token for {_LETTERS_PER_TOKEN:g} letters (1.3 in Chinese and Japanese), "
            "and OpenAI's overhead for messages. It was 24 % too high for support conversations and 10 % too low for "
            "mathematics"
        )
        return Counts(model, "estimate", how, _by_rule(examples, estimate_tokens), limit)
    how = f"an estimate, because {why}: counted with {_NEWEST} instead, and OpenAI's overhead for messages"
    lengths = _by_rule(examples, lambda text: len(encoding.encode(text, disallowed_special=())))
    return Counts(model, "estimate", how, lengths, limit)


def _encoding(name: str) -> Any:
    """tiktoken's encoding. Its download has no time limit of its own, and may wait behind a firewall for minutes.

    Raises:
        TimeoutError, and any error of the download.
    """
    import tiktoken

    loaded: Future[Any] = Future()

    def load() -> None:
        try:
            loaded.set_result(tiktoken.get_encoding(name))
        except Exception as error:
            loaded.set_exception(error)

    Thread(target=load, daemon=True).start()
    return loaded.result(_DOWNLOAD_S)


def estimate_tokens(text: str) -> int:
    """A rough estimate of the tokens of a text, from its number of letters."""
    wide = 0 if text.isascii() else sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return round((len(text) - wide) / _LETTERS_PER_TOKEN + wide / _WIDE_LETTERS_PER_TOKEN)


def _by_rule(examples: Sequence[Example], size: Callable[[str], int]) -> tuple[Length, ...]:
    """Lengths by OpenAI's rule; `size` measures a text. The texts of assistant messages have loss."""
    lengths = []
    for example in examples:
        messages = example.conversation.messages
        sizes = [sum(size(text) for text in _texts(message)) for message in messages]
        roles = sum(size(message.role) + _PER_MESSAGE for message in messages)
        names = sum(
            _PER_NAME + size(message.name) for message in messages if isinstance(message, ToolResult) and message.name
        )
        tools = sum(size(tool) for tool in example.conversation.tools)
        learnt = sum(sizes[place] for place in example.learnt)
        lengths.append(Length(example.line, sum(sizes) + roles + names + tools + _PER_REPLY, learnt))
    return _by_line(lengths)


def _texts(message: ChatMessage) -> Iterator[str]:
    yield reasoning_of(message)
    yield message.content
    if isinstance(message, ToolUse):
        for call in message.calls:
            yield call.name
            yield call.arguments


def _by_tokenizer(
    examples: Sequence[Example], name: str, registry: "Registry | None", limit: int | None, fetch: bool
) -> Counts:
    from train.trainers.bases import find_base, load_config, load_tokenizer
    from train.trainers.runtime import quiet
    from train.trainers.tokens import tokenise

    base = find_base(name, registry)
    is_local = Path(base.location).is_dir()
    if not is_local and not fetch and not _cached(base.location):
        return _estimated(examples, base.name, "its tokenizer has not been downloaded from the hub", limit)
    with quiet():
        try:
            tokenizer = load_tokenizer(base)
        except ParleyError as error:
            if is_local:
                raise
            return _estimated(examples, base.name, f"its tokenizer is not available ({str(error).rstrip('.')})", limit)
        tokenised = tokenise(examples, tokenizer, _ENDLESS)
        limit = limit or _training_limit(load_config(base), len(examples))
    lengths = _by_line(Length(row.line, len(row.input_ids), row.learnt) for row in tokenised.rows)
    ways = ", ".join(sorted(tokenised.methods))
    how = f"{base.name}'s own tokenizer and chat template, as in training (answers located by {ways})"
    refused = tuple(problem.line for problem in tokenised.problems)
    if not lengths:
        raise Invalid(
            f"The chat template of {base.name} can render no conversation: line {tokenised.problems[0].line}: "
            f"{tokenised.problems[0].message}.",
            param="data",
        )
    return Counts(base.name, "own tokenizer", how, lengths, limit, refused)


def _training_limit(config: Any, examples: int) -> int:
    """The default limit of `train` for the tokens of a row."""
    from train.hyperparameters import Facts, Hyperparameters, resolve

    context = int(getattr(config, "max_position_embeddings", 0) or 1_000_000)
    facts = Facts(examples, int(getattr(config, "hidden_size", 2_048)), context)
    return resolve(Hyperparameters(), facts).values.max_length


def _cached(hub_id: str) -> bool:
    """Whether the tokenizer of a hub model is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, "tokenizer_config.json"), str)
