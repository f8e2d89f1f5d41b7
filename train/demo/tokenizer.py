"""The tokenizer of the demo's models: a byte-level BPE of 4,096 tokens with single digits, and its chat template.

Digits, and the capitals of codes such as INV-12, are single tokens, so that numbers are copied by character.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SIZE = 4096
PAD, START, END, STOP = "<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"
MAX_LENGTH = 4096
_QWEN2_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# ChatML. The generation tags tell TRL which tokens are the assistant's, including the end token.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- message['content'] + '<|im_end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


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
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START, STOP],
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerFast":
    """The tokenizer in a model's folder."""
    from transformers import AutoTokenizer

    return cast("PreTrainedTokenizerFast", AutoTokenizer.from_pretrained(str(folder)))
