"""Conversations to token ids and labels (which tokens are learnt), by the model's own chat template. No torch.

The text is always what the model's template renders, because the server renders with the same template. The labels are
found by one of three methods, tried in this order:

1. marks: the template marks the assistant's text ({% generation %}), including the end-of-turn token;
2. prefixes: what `messages[:i] + [answer]` renders beyond `messages[:i]` with the generation prompt;
3. one by one: if a template renders earlier turns differently from the last (many drop their reasoning), or writes no
   end of turn, each learnt turn becomes a separate row with the whole context before it, as it is served.

A template that allows none of them is refused, and so is one that omits a conversation's tools, calls or results.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, Literal, TypeVar

from models.chat_templates import names as template_names
from models.chat_templates.system_role import has_system_role
from models.errors import Invalid
from train.data.conversations import ChatMessage, Example, Problem, TextParts, ToolResult, ToolUse, reasoning_of
from train.trainers.templates import engine_messages
from train.trainers.thoughts import ThoughtCheck, loses_earlier_thoughts

IGNORED = -100  # the label that carries no loss, in torch as in transformers
RowT = TypeVar("RowT", covariant=True)
Method = Literal["marks", "prefixes", "one by one"]
_PLAIN = "Plain words."  # an answer without calls, which shows how a template ends a turn
_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Row:
    """One sequence: `labels` holds the ids of learnt tokens and IGNORED elsewhere; both have the same length."""

    line: int
    input_ids: list[int]
    labels: list[int]

    @property
    def learnt(self) -> int:
        """The number of tokens that carry loss."""
        return sum(label != IGNORED for label in self.labels)

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return len(self.input_ids)

    @property
    def turns(self) -> list[list[int]]:
        """The ids of each span of learnt tokens."""
        learnt = [int(label != IGNORED) for label in self.labels]
        return [self.input_ids[start:end] for start, end in _runs(learnt)]

    longest = tokens  # a pair has two lengths


@dataclass(frozen=True)
class Tokenised(Generic[RowT]):
    """The rows, what could not be used and why, the methods that found the labels, and warnings about all rows."""

    rows: tuple[RowT, ...]
    problems: tuple[Problem, ...]
    methods: frozenset[Method]
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class _Rendered:
    text: str
    spans: tuple[tuple[int, int], ...]
    add_eos: bool = False


class _TemplateRefuses(Exception):
    """The template cannot render this conversation; the message is the template's."""


def tokenise(
    examples: Sequence[Example], tokenizer: Any, max_length: int, thoughts: ThoughtCheck | None = None
) -> Tokenised[Row]:
    """Ids and labels for each example, in order.

    Args:
        examples: checked examples.
        tokenizer: a transformers tokenizer with a chat template.
        max_length: in tokens. A longer row is left out and reported: truncated, it would teach the model to stop early.
        thoughts: counts what the template does with reasoning over several calls; the caller reports it.

    Raises:
        Invalid: the tokenizer has no chat template, or cannot report token offsets.
    """
    if not tokenizer.chat_template:
        raise Invalid(
            "The base has no chat template: choose a chat (instruct) model, or train with `--chat-template` and one of "
            f"{', '.join(template_names())}, or a file.",
            param="base",
        )
    if not getattr(tokenizer, "is_fast", False):
        raise Invalid("The base's tokenizer has no fast version (tokenizer.json), which training needs.", param="base")
    marked = _marks_can_be_used(tokenizer)
    counted = thoughts or ThoughtCheck(tokenizer)
    rows: list[Row] = []
    problems: list[Problem] = []
    methods: set[Method] = set()
    for example in examples:
        try:
            method, example_rows = _rows(example, tokenizer, marked)
        except _TemplateRefuses as refusal:
            mend = "change the conversation to what the base's chat template accepts"
            wrong = f"the chat template refuses it: {refusal}"
            problems.append(Problem(example.line, "error", wrong, mend, "template-refuses"))
            continue
        methods.add(method)
        counted.add(example, lambda rows=example_rows: [turn for row in rows for turn in row.turns])
        for row in example_rows:
            if len(row.input_ids) > max_length:
                wrong = f"{len(row.input_ids):,} tokens, over the limit of {max_length:,}"
                mend = "shorten or split the conversation"
                problems.append(Problem(example.line, "error", wrong, mend, "over-token-limit"))
            elif not row.learnt:
                wrong = "it has no tokens to train on"
                problems.append(Problem(example.line, "error", wrong, "look at the answer's text", "nothing-learnt"))
            else:
                rows.append(row)
    return Tokenised(tuple(rows), tuple(problems), frozenset(methods), () if thoughts else counted.problems())


def join_parts(rows: Iterable[RowT], parts: Iterable[Tokenised[Any]], thoughts: ThoughtCheck) -> Tokenised[RowT]:
    """One result for rows that are made of the rows of `parts`, with the problems and methods of all parts."""
    parts = tuple(parts)
    problems = (problem for part in parts for problem in part.problems)
    methods = (method for part in parts for method in part.methods)
    return Tokenised(tuple(rows), tuple(problems), frozenset(methods), thoughts.problems())


def _rows(example: Example, tokenizer: Any, marked: bool) -> tuple[Method, list[Row]]:
    _require_tools(example, tokenizer)
    _require_system(example, tokenizer)
    if marked:
        row = _row_by_marks(example, tokenizer)
        if row and not loses_earlier_thoughts(example, tokenizer, row.turns):
            return "marks", [row]
    rendered = _by_prefixes(example, tokenizer)
    if rendered:
        return "prefixes", [_row(example.line, rendered, tokenizer)]
    turns = [_one_turn(example, position, tokenizer) for position in example.learnt]
    return "one by one", [_row(example.line, turn, tokenizer) for turn in turns]


def _marks_can_be_used(tokenizer: Any) -> bool:
    """Whether the template has marks that include the end-of-turn token, which the model must learn."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default", "")
    if not _MARKS.search(template):
        return False
    from trl.chat_template_utils import is_chat_template_stop_token_trained

    return is_chat_template_stop_token_trained(tokenizer)


def _row_by_marks(example: Example, tokenizer: Any) -> Row | None:
    """By the template's marks; None if the marked spans do not match the assistant's messages one to one."""
    messages, tools = _for_template(example, tokenizer)
    options = {"tools": tools, "return_dict": True, "return_assistant_tokens_mask": True}
    encoded = _apply_template(tokenizer, messages, tokenize=True, **options)
    ids, mask = list(encoded["input_ids"]), list(encoded["assistant_masks"])
    if example.unweighted:
        runs = _runs(mask)
        answers = [position for position, message in enumerate(messages) if message["role"] == "assistant"]
        if len(runs) != len(answers):
            return None
        for (start, end), position in zip(runs, answers, strict=True):
            if position in example.unweighted:
                mask[start:end] = [0] * (end - start)
    return Row(example.line, ids, [token if bit else IGNORED for token, bit in zip(ids, mask, strict=True)])


def _runs(mask: Sequence[int]) -> list[tuple[int, int]]:
    """The spans of ones, as [start, end)."""
    bits = [0, *(int(bool(bit)) for bit in mask), 0]
    edges = [position for position, (left, right) in enumerate(pairwise(bits)) if left != right]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _by_prefixes(example: Example, tokenizer: Any) -> _Rendered | None:
    """The whole conversation with a span for each learnt turn; None if the template does not render by prefixes."""
    messages, tools = _for_template(example, tokenizer)
    full = _render(tokenizer, messages, tools)
    spans = []
    for position in example.learnt:
        answer = example.conversation.messages[position]
        head, through = _around(tokenizer, messages, position, tools)
        if not (through.startswith(head) and full.startswith(through)):
            return None
        if not _ends_turn(answer, through, tokenizer, messages[:position], tools):
            return None
        _require_answer(through[len(head) :], answer)
        spans.append((len(head), len(through.rstrip())))
    return _Rendered(full, tuple(spans))


def _one_turn(example: Example, position: int, tokenizer: Any) -> _Rendered:
    """The conversation up to one turn, as it is served when that turn is generated."""
    messages, tools = _for_template(example, tokenizer)
    answer = example.conversation.messages[position]
    head, through = _around(tokenizer, messages, position, tools)
    if not through.startswith(head):
        if reasoning_of(answer):
            mend = "use another --chat-template, or remove the reasoning"
            raise _TemplateRefuses(f"it begins an answer with other text than the answer's reasoning: {mend}")
        mend = "add `reasoning_content` to the answers, or use another --chat-template"
        raise _TemplateRefuses(f"it begins an answer with text, such as <think>, that the data does not have: {mend}")
    _require_answer(through[len(head) :], answer)
    ended = _ends_turn(answer, through, tokenizer, messages[:position], tools)
    end = len(through.rstrip()) if ended else len(through)
    return _Rendered(through, ((len(head), end),), add_eos=not ended)


def _for_template(example: Example, tokenizer: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    tools = example.conversation.tool_dicts()
    return engine_messages(example.conversation.for_template(), tokenizer, tools), tools


def _around(tokenizer: Any, messages: list[dict[str, Any]], position: int, tools: Any) -> tuple[str, str]:
    head = _render(tokenizer, messages[:position], tools, add_generation_prompt=True)
    return head, _render(tokenizer, messages[: position + 1], tools)


def _ends_turn(answer: ChatMessage, through: str, tokenizer: Any, before: list[dict[str, Any]], tools: Any) -> bool:
    """Whether the template ends the turn with a marker such as <|im_end|>."""
    if not isinstance(answer, ToolUse):
        return not through.rstrip().endswith(_texts(answer)[-1].strip())
    # The template decides how a call is written, so a plain answer in its place shows the end of the turn.
    words = engine_messages([{"role": "assistant", "content": _PLAIN}], tokenizer, tools)
    plain = _render(tokenizer, [*before, *words], tools)
    ending = plain.rpartition(_PLAIN)[2].strip()
    return bool(ending) and through.rstrip().endswith(ending)


def _require_answer(rendered: str, answer: ChatMessage) -> None:
    """Some templates (of models that also read images) omit plain text without an error."""
    if any(text.rpartition("</think>")[2].strip() not in rendered for text in _texts(answer)):
        raise _TemplateRefuses("it does not write the answer's text")
    if isinstance(answer, ToolUse) and any(call.name not in rendered for call in answer.calls):
        raise _TemplateRefuses("it does not write tool calls: choose a base whose chat template supports tools")


def _texts(message: ChatMessage) -> tuple[str, ...]:
    """The content's parts: a template may write something else between them than an engine does."""
    return message.parts if isinstance(message, TextParts) else (message.content,)


def _require_tools(example: Example, tokenizer: Any) -> None:
    """A template without tool support omits tools without an error, and a call would be learnt without its context."""
    messages, tools = _for_template(example, tokenizer)
    results = [message for message in example.conversation.messages if isinstance(message, ToolResult)]
    if not (tools or results):
        return
    text = _render(tokenizer, messages, tools)
    if any(str((tool.get("function") or tool).get("name")) not in text for tool in tools or ()):
        raise _TemplateRefuses("it does not write the tools: choose a base whose chat template supports tools")
    # Llama's templates write a result as JSON.
    forms = [(result.content.strip(), json.dumps(result.content, ensure_ascii=False)) for result in results]
    if any(plain not in text and encoded not in text for plain, encoded in forms):
        raise _TemplateRefuses("it does not write tool results: choose a base whose chat template does")


def _require_system(example: Example, tokenizer: Any) -> None:
    """A template without system messages may leave them out without an error."""
    systems = [message for message in example.conversation.messages if message.role == "system"]
    if not systems:
        return
    messages, tools = _for_template(example, tokenizer)
    fold = "fold system messages into user turns with --fold-system"
    try:
        text = _render(tokenizer, messages, tools)
    except _TemplateRefuses as refusal:
        if has_system_role(tokenizer.get_chat_template(tools=tools), tokenizer.special_tokens_map):
            raise
        raise _TemplateRefuses(f"{refusal} ({fold})") from refusal
    if any(part.strip() not in text for message in systems for part in _texts(message)):
        raise _TemplateRefuses(f"it does not write system messages ({fold})")


def _row(line: int, rendered: _Rendered, tokenizer: Any) -> Row:
    encoded = tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
    ids = list(encoded["input_ids"])
    labels = [
        token if any(start <= first < last <= end for start, end in rendered.spans) else IGNORED
        for token, (first, last) in zip(ids, encoded["offset_mapping"], strict=True)
    ]
    if rendered.add_eos:
        if tokenizer.eos_token_id is None:
            raise _TemplateRefuses("it writes no end of turn, and the tokenizer has no end-of-text token")
        ids.append(tokenizer.eos_token_id)
        labels.append(tokenizer.eos_token_id)
    return Row(line, ids, labels)


def _render(tokenizer: Any, messages: list[dict[str, Any]], tools: Any = None, **options: Any) -> str:
    return _apply_template(tokenizer, messages, tokenize=False, tools=tools, **options)


def _apply_template(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> Any:
    # Templates refuse by raising through Jinja, and fail on unexpected roles with any other error.
    try:
        return tokenizer.apply_chat_template(messages, **options)
    except Exception as error:
        raise _TemplateRefuses(" ".join(str(error).split()) or type(error).__name__) from error
