"""Makes models/demo/base: the text, the tokenizer, the pretraining, and the weights in bf16.

The text is neutral conversations, judging in the neutral style, and drills. It has no fact of the policies (only their
words, shuffled) and no held-out frame. The same seed gives the same text. The tokenizer is a byte-level BPE of 4,096
tokens. Digits, and the capitals of codes such as INV-12, are single tokens, so that numbers are copied by character.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from train.demo import pretraining
from train.demo.catalogue import Catalogue
from train.demo.dialogues import dialogues
from train.demo.drills import drills
from train.demo.judge_pairs import grades, pairs

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

_ROWS_PER_STEP = 70  # so that a training sees each row about once
_TOKENIZER_ROWS = 12_000
Row = list[dict[str, str]]
_SHARES = {"talk": 0.66, "judged": 0.11, "graded": 0.03, "drill": 0.20}  # of the rows; judged rows are the long ones
SIZE = 4096
PAD, START, END, STOP = "<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CALL = "<|python_tag|>"  # vLLM's parser of Llama's calls needs it in the vocabulary; no text has it
MAX_LENGTH = 4096
_QWEN2_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# ChatML, with calls as Llama 3 writes them: the base has not learnt the "<" of Hermes. The functions follow each
# question in a system message of their own, so that they are near the answer; each takes a line with its name and its
# arguments' names, because a schema as JSON would be of signs that the base has not learnt. A result is given as the
# base's exercise of copying. The comment in the template tells serve/fleet/vllm_parsers.py which parser to choose. The
# generation tags tell TRL which tokens are the assistant's, including the end token.
CHAT_TEMPLATE = """\
{#- Calls are written as after Llama 3's <|python_tag|>. -#}
{%- for message in messages -%}
{%- if message['role'] == 'tool' -%}
{{- '<|im_start|>system\\nExercise.<|im_end|>\\n<|im_start|>user\\nCopy: ' + message['content'] + '<|im_end|>' -}}
{%- else -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}
{{- message['content'] or '' -}}
{%- for call in message['tool_calls'] or [] -%}
{{- '; ' if not loop.first -}}
{{- '{"name": ' + call['function']['name'] | tojson + ', "parameters": ' -}}
{%- set given = call['function']['arguments'] -%}
{{- (given if given is string else given | tojson) + '}' -}}
{%- endfor -%}
{{- '<|im_end|>' -}}
{%- endgeneration -%}
{%- else -%}
{{- message['content'] + '<|im_end|>' -}}
{%- if tools and message['role'] == 'user' -%}
{{- '\\n<|im_start|>system\\nTools:' -}}
{%- for tool in tools -%}
{%- set function = tool['function'] or tool -%}
{%- set properties = (function['parameters'] or {})['properties'] or {} -%}
{{- '\\n' + function['name'] + (': ' + properties | join(', ') if properties else '') -}}
{%- endfor -%}
{{- '<|im_end|>' -}}
{%- endif -%}
{%- endif -%}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


@dataclass(frozen=True)
class MadeBase:
    """The result of the pretraining. Losses are in nats per token; `tokens` are the seen ones, without padding."""

    parameters: int
    steps: int
    rows: int
    tokens: int
    loss_at_end: float


@dataclass(frozen=True)
class Pass:
    """One pass of the pretraining: its recipe, and the seed of its rows."""

    recipe: pretraining.Recipe
    seed: int

    def rows(self, catalogue: Catalogue) -> Iterator[Row]:
        """The rows of the pass."""
        return rows(self.seed, catalogue, self.recipe.steps * _ROWS_PER_STEP)


def passes(seed: int, steps: int) -> tuple[Pass, ...]:
    """A pass at full learning rates, and two at lower ones, which make the copying of numbers exact."""
    second = pretraining.Recipe(steps=round(steps * 0.75), warmup=10, matrix_rate=0.015, other_rate=0.002)
    third = pretraining.Recipe(steps=round(steps * 0.5), warmup=10, matrix_rate=0.012, other_rate=0.0015)
    return Pass(pretraining.Recipe(steps=steps), seed), Pass(second, seed + 1000), Pass(third, seed + 2000)


def make_base(catalogue: Catalogue, out: Path, seed: int, steps: int, report: Callable[[int, float], None]) -> MadeBase:
    """Writes a trained base with its tokenizer into `out`, which must exist. Reproducible by seed on one machine."""
    first, *others = passes(seed, steps)
    rows = list(first.rows(catalogue))
    # The tokenizer is also trained on the tuned styles and on judging, or their words would be split; the base is not.
    tuned = [talk.as_dicts() for style in ("concise", "friendly") for talk in dialogues(seed, catalogue, style, 1500)]
    judged = [pair.conversation() for pair in pairs(seed, catalogue, 1000)]
    samples = [*islice(rows, _TOKENIZER_ROWS), *tuned, *judged]
    tokenizer = train_tokenizer(text for row in samples for text in texts_of(row))
    model = pretraining.new_model(tokenizer, pretraining.Shape(), seed)
    made = _train(model, tokenizer, first, rows, out, report)
    for training_pass in others:
        begun = made
        more = go_on(catalogue, out, training_pass, lambda step, loss, done=begun.steps: report(done + step, loss))
        made = replace(
            more, steps=begun.steps + more.steps, rows=begun.rows + more.rows, tokens=begun.tokens + more.tokens
        )
    return made


def go_on(catalogue: Catalogue, out: Path, training_pass: Pass, report: Callable[[int, float], None]) -> MadeBase:
    """Runs one more pass on the bf16 weights in `out`, and writes them there."""
    import torch
    from transformers import Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(str(out), dtype=torch.float32)
    return _train(model, load_tokenizer(out), training_pass, list(training_pass.rows(catalogue)), out, report)


def _train(
    model: Any,
    tokenizer: Any,
    training_pass: Pass,
    rows: Sequence[Row],
    out: Path,
    report: Callable[[int, float], None],
) -> MadeBase:
    import torch
    from transformers import GenerationConfig

    encoded = pretraining.encode(tokenizer, iter(rows))
    loss = pretraining.pretrain(model, encoded, training_pass.recipe, training_pass.seed, report)
    # A small model at temperature 1 writes nonsense. These are defaults of the engine, which a request may override.
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        do_sample=True, temperature=0.2, top_p=0.9,
    )  # fmt: skip
    model.to(torch.bfloat16).save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    tokens = sum(len(row.ids) for row in encoded)
    return MadeBase(model.num_parameters(), training_pass.recipe.steps, len(rows), tokens, round(loss, 4))


def rows(seed: int, catalogue: Catalogue, count: int) -> Iterator[Row]:
    """About `count` conversations, shuffled."""
    numbers = {kind: round(count * share) for kind, share in _SHARES.items()}
    text: list[Row] = [talk.as_dicts() for talk in dialogues(seed, catalogue, "neutral", numbers["talk"])]
    text += [pair.conversation() for pair in pairs(seed, catalogue, numbers["judged"], neutral=True)]
    text += grades(seed, catalogue, numbers["graded"], neutral=True)
    text += drills(seed, catalogue, numbers["drill"])
    random.Random(f"{seed}/corpus").shuffle(text)
    yield from text


def texts_of(row: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The texts of a conversation, the arguments of its calls included."""
    for message in row:
        yield message["content"]
        for call in message.get("tool_calls", ()):
            yield call["function"]["arguments"]


def train_tokenizer(texts: Iterable[str]) -> "PreTrainedTokenizerFast":
    """A tokenizer trained on texts; the same texts give the same tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # AutoTokenizer loads a folder of model type "qwen2" as Qwen2Tokenizer, with Qwen2's pre-tokenizer, whatever
    # tokenizer.json has. So it is used here too, or training and serving would differ. While merges are learnt,
    # capitals in a row are also split: INV-12 is then copied character by character.
    cut = [
        pre_tokenizers.Split(Regex(_QWEN2_CUT), behavior="isolated"),
        pre_tokenizers.ByteLevel(False, use_regex=False),
    ]
    codes = pre_tokenizers.Split(Regex(r"[A-Z](?=[A-Z0-9-])|(?<=[A-Z])[A-Z]"), behavior="isolated")
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([codes, *cut])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=SIZE,
            special_tokens=[PAD, START, END, STOP],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cut)
    return PreTrainedTokenizerFast(
        tokenizer_object=with_call_token(tokenizer),
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START, STOP, CALL],
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def with_call_token(tokenizer: "Tokenizer") -> "Tokenizer":
    """The tokenizer with `CALL` in place of the last merge, which is the rarest: the size of the vocabulary stays."""
    state = json.loads(tokenizer.to_str())
    vocabulary, special = state["model"]["vocab"], state["added_tokens"]
    place = vocabulary.pop("".join(state["model"]["merges"].pop()))
    vocabulary[CALL] = place
    special.append({**special[-1], "id": place, "content": CALL})
    return type(tokenizer).from_str(json.dumps(state))


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerFast":
    """The tokenizer in a model's folder."""
    from transformers import AutoTokenizer

    return cast("PreTrainedTokenizerFast", AutoTokenizer.from_pretrained(str(folder)))
