"""Reads conversations from one text that contains the roles: markers of chat templates, or names before each turn.

| style | a turn begins with |
|---|---|
| `chatml` | `<|im_start|>user` |
| `llama3` | `<|start_header_id|>user<|end_header_id|>` |
| `gemma` | `<start_of_turn>user` |
| `zephyr` | `<|user|>` (also Phi's) |
| `inst` | `[INST]`, and the answer with `[/INST]` (Llama 2, Mistral) |
| `headings` | `### Human:`, `### Instruction:`, `### Response:` |
| `hh` | an empty line and `Human:` or `Assistant:` |
| `names` | a line that begins with `User:`, `Assistant:`, `Q:`, `A:`, … |

Text before the first marker becomes the system message, so nothing is dropped.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_ROLES = {
    "human": "user", "user": "user", "instruction": "user", "input": "user", "question": "user", "prompter": "user",
    "customer": "user", "client": "user", "q": "user", "prompt": "user",
    "assistant": "assistant", "response": "assistant", "output": "assistant", "answer": "assistant", "gpt": "assistant",
    "model": "assistant", "bot": "assistant", "ai": "assistant", "agent": "assistant", "chatgpt": "assistant",
    "a": "assistant", "chatbot": "assistant", "support": "assistant",
    "system": "system", "developer": "system", "inst": "user", "/inst": "assistant",
    "function response": "tool",  # Glaive's
}  # fmt: skip
_NAMES = "|".join(sorted((name for name in _ROLES if "inst" not in (name, name[1:])), key=len, reverse=True))
_JOINED = ("instruction", "input")  # two headings of one question
_QUESTION_FIELDS = ("prompt", "question", "query", "instruction", "input", "messages", "conversations")
_LOOSE = "names"  # ordinary prose may look like this style
# What templates write before a conversation and after a turn. It is not part of a message.
_BEGINNINGS = ("<s>", "<bos>", "<|begin_of_text|>")
_ENDS = (
    "</s>", "<s>", "<bos>", "<eos>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>",
    "<|end_of_text|>",
)  # fmt: skip
_SYS = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
# In a file of plain text these end a conversation.
_RULES = re.compile(
    r"(<\|endoftext\|>|<\|end_of_text\|>|<eos>|</s>[ \t]*\n(?=<s>|\[INST\])"
    r"|^[ \t]*(?:-{3,}|={3,}|\*{3,})[ \t]*$)",
    re.MULTILINE,
)
_WITH_ENDS = ("chatml", "llama3", "gemma", "zephyr", "inst")  # styles whose turns end with a token
# The fields in which a row may have a whole conversation as text.
TEXT_FIELDS = (
    "text", "messages", "conversation", "conversations", "dialogue", "dialog", "chat", "content", "sample", "prompt",
)  # fmt: skip


# What begins a new conversation in a file of plain text, for `--separator`.
SEPARATORS = ("auto", "rule", "blank-line", "pair")
_QUESTION_NAMES = ("q", "question", "instruction", "input", "prompt")  # names of lists of questions
_NEAR = 200  # characters before a turn in which an empty line is looked for
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*\Z")


@dataclass(frozen=True)
class RoleText:
    """A text read as messages, `{"role", "content"}` each, and the style of its markers.

    `guess`: how the conversations of its file were separated, if that was guessed: by "blank-line"; or by "rule", with
    several questions in one conversation.
    """

    style: str
    messages: tuple[dict[str, str], ...]
    guess: str = ""


def _marker(pattern: str, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    return re.compile(pattern.replace("ROLE", r"(?P<role>[A-Za-z_]+)").replace("NAME", f"(?P<role>{_NAMES})"), flags)


# In the order in which they are tried: `hh` is a stricter `names`.
_MARKERS: Mapping[str, re.Pattern[str]] = {
    "chatml": _marker(r"<\|im_start\|>\s*ROLE[ \t]*\n?"),
    "llama3": _marker(r"<\|start_header_id\|>\s*ROLE\s*<\|end_header_id\|>\s*"),
    "gemma": _marker(r"<start_of_turn>\s*ROLE[ \t]*\n?"),
    "zephyr": _marker(r"<\|(?P<role>system|user|assistant)\|>\s*"),
    "inst": re.compile(r"\[(?P<role>/?INST)\]"),
    "headings": _marker(r"###[ \t]*NAME[ \t]*(?::|(?=\r?\n))", re.IGNORECASE),
    "hh": re.compile(r"(?:\A|\n\r?\n)[ \t]*(?P<role>Human|Assistant):"),
    "names": _marker(r"^[ \t]*(?:\*\*)?NAME(?:\*\*)?[ \t]*:(?:\*\*)?", re.IGNORECASE | re.MULTILINE),
}


def style_names() -> tuple[str, ...]:
    """The styles' names, for `--format`."""
    return tuple(_MARKERS)


def read_role_text(text: str, style: str | None = None) -> RoleText | None:
    """The messages of a text in this style, or in the one that its markers show.

    Returns:
        None if the text has no markers of the style or, without a style, of both a user and an assistant.
    """
    if style is not None:
        messages = _messages(text, style)
        return RoleText(style, messages) if messages else None
    for known, marker in _MARKERS.items():
        turns = _turns(marker, text)
        if {"user", "assistant"} <= {_role(turn) for turn in turns} and (
            known != _LOOSE or not text[: turns[0].start()].strip()
        ):
            return RoleText(known, _messages(text, known))
    return None


def conversations_of(text: str, style: str | None = None, separator: str = "auto") -> Iterator[RoleText | None]:
    """The conversations of a file of plain text; None for a part that has no markers.

    Lines of dashes and end-of-text tokens separate conversations, and a system message begins a new one.

    Args:
        separator: one of `SEPARATORS`. "blank-line": an empty line before a question also begins a new one. "pair":
            each question does. "auto": "blank-line" if one precedes each question and no answer; otherwise "rule".
    """
    parts = [part for part in _parts(text, style) if part.strip()]
    for part in parts:
        read = read_role_text(part, style)
        if read is None:
            yield None
            continue
        pieces, guess = _separated(part, read.style, separator, alone=len(parts) == 1)
        for piece in pieces:
            yield from _conversations_in(piece, read.style, guess)


def _conversations_in(part: str, style: str, guess: str) -> Iterator[RoleText]:
    messages: list[dict[str, str]] = []
    for message in _messages(part, style):
        if message["role"] == "system" and messages:
            yield RoleText(style, tuple(messages), guess)
            messages = []
        messages.append(message)
    yield RoleText(style, tuple(messages), guess)


def _separated(part: str, style: str, separator: str, *, alone: bool) -> tuple[list[str], str]:
    """The conversations of a part as texts, and the guess that this is (as in `RoleText`)."""
    turns = _turns(_MARKERS[style], part)
    roles = ["", *map(_role, turns)]
    later = [turn for turn, before, role in zip(turns, roles, roles[1:], strict=False) if role == "user" != before][1:]
    after_blank = [turn for turn in later if _after_blank_line(part, turn)]
    if separator == "rule" or not later:
        return [part], ""
    if separator == "auto":
        mixed = any(_role(turn) == "assistant" and _after_blank_line(part, turn) for turn in turns)
        if style != _LOOSE or mixed or len(after_blank) < len(later):
            is_list = alone and len(later) > 2 and later[0]["role"].lower() in _QUESTION_NAMES
            return [part], "rule" if is_list else ""
    cuts = [turn.start() for turn in (later if separator == "pair" else after_blank)]
    pieces = [part[start:end] for start, end in zip([0, *cuts], [*cuts, len(part)], strict=True)]
    return pieces, "blank-line" if separator == "auto" else ""


def _after_blank_line(text: str, turn: re.Match[str]) -> bool:
    return _BLANK_LINE.search(text, max(0, turn.start() - _NEAR), turn.start()) is not None


def _parts(text: str, style: str | None) -> Iterator[str]:
    """The texts between separators. A line of dashes before the end of a turn belongs to the turn."""
    guessed = None if style else read_role_text(text)
    style = guessed.style if guessed else style
    marker = _MARKERS[style] if style in _WITH_ENDS else None
    pieces = _RULES.split(text)  # texts and rules in turn
    part = pieces[:1]
    for rule, after in zip(pieces[1::2], pieces[2::2], strict=True):
        in_turn = rule.strip()[0] in "-=*" and not part[-1][-64:].rstrip().endswith(_ENDS)
        if marker and in_turn and not marker.match(after.lstrip()):
            part += (rule, after)
        else:
            yield "".join(part)
            part = [after]
    yield "".join(part)


def open_role_text(row: Mapping[str, Any], style: str | None, has_format: bool) -> tuple[dict[str, Any], str] | None:
    """A row with messages in place of its conversation text, and the style; None if it has no such text.

    Args:
        row: a row of a file. Pairs have `chosen` and `rejected`; a `prompt` may have a transcript up to the answer.
        style: the style to read; None for the one that the text shows.
        has_format: whether the row has a known format; then only `messages` and `conversations` may be transcripts.
    """
    if isinstance(row.get("chosen"), str) and isinstance(row.get("rejected"), str):
        return _opened_pair(row, style)
    answer = next((name for name in ("completion", "response") if isinstance(row.get(name), str)), None)
    if isinstance(row.get("prompt"), str) and answer:
        return _opened_completion(row, answer, style)
    if has_format and not any(isinstance(row.get(name), str) for name in ("messages", "conversations")):
        return None
    for name in TEXT_FIELDS:
        if isinstance(row.get(name), str) and (read := read_role_text(row[name], style)):
            rest = {key: value for key, value in row.items() if key not in (name, "messages")}
            return {"messages": list(read.messages), **rest}, read.style
    return None


def _opened_pair(row: Mapping[str, Any], style: str | None) -> tuple[dict[str, Any], str] | None:
    """A pair of two transcripts, or of two answers after a transcript.

    Without a style, transcripts must begin with the same message, and answers to a question are not read by names.
    """
    chosen, rejected = (read_role_text(row[name], style) for name in ("chosen", "rejected"))
    prompt = _open_prompt(row["prompt"], style) if isinstance(row.get("prompt"), str) else None
    has_question = any(row.get(name) for name in _QUESTION_FIELDS)
    if (
        chosen
        and rejected
        and (style or (chosen.messages[0] == rejected.messages[0] and not (has_question and chosen.style == _LOOSE)))
    ):
        opened = {"chosen": list(chosen.messages), "rejected": list(rejected.messages)}
        return dict(row) | opened | ({"prompt": list(prompt.messages)} if prompt else {}), chosen.style
    return (dict(row) | {"prompt": list(prompt.messages)}, prompt.style) if prompt else None


def _opened_completion(row: Mapping[str, Any], answer: str, style: str | None) -> tuple[dict[str, Any], str] | None:
    prompt = _open_prompt(row["prompt"], style)
    if prompt is None:
        return None
    completion = {"role": "assistant", "content": _trimmed(row[answer])}
    rest = {key: value for key, value in row.items() if key not in ("prompt", answer)}
    return {"messages": [*prompt.messages, completion], **rest}, prompt.style


def _open_prompt(text: str, style: str | None) -> RoleText | None:
    """A transcript that ends where the answer begins, as prompts for completion models have it."""
    for known in (style,) if style else (name for name in _MARKERS if name != _LOOSE):
        turns = _turns(_MARKERS[known], text)
        roles = [_role(turn) for turn in turns]
        if "user" in roles and roles[-1] == "assistant" and not text[turns[-1].end() :].strip():
            return RoleText(known, _messages(text, known))
    return None


def _turns(marker: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """The markers that begin a turn. Of several names for one role only the first is a marker: the text of an answer
    may have the others."""
    names: dict[str, str] = {}
    turns = []
    for match in marker.finditer(text):
        name = match["role"].lower()
        first = names.setdefault(_role(match), name)
        if name == first or (name in _JOINED and first in _JOINED):
            turns.append(match)
    return turns


def _role(match: re.Match[str]) -> str:
    name = match["role"].lower()
    return _ROLES.get(name, name)


def _messages(text: str, style: str) -> tuple[dict[str, str], ...]:
    """The messages of a text, neighbours of one role joined, without an empty last answer."""
    joined: list[tuple[str, list[str]]] = []
    for role, content in _contents(_trimmed(text), _MARKERS[style]):
        if joined and joined[-1][0] == role and role != "tool":
            joined[-1][1].append(_trimmed(content))
        else:
            joined.append((role, [_trimmed(content)]))
    messages = [{"role": role, "content": "\n\n".join(contents)} for role, contents in joined]
    if messages and messages[-1] == {"role": "assistant", "content": ""}:
        messages.pop()  # the text ends where an answer begins
    return tuple(messages)


def _trimmed(text: str) -> str:
    """The text without the tokens of a template at its ends."""
    start, end = 0, len(text)
    while token := next((token for token in _BEGINNINGS if text.startswith(token, start)), ""):
        start += len(token)
    while end > start:
        if text[end - 1].isspace():
            end -= 1
        elif token := next((token for token in _ENDS if text.endswith(token, start, end)), ""):
            end -= len(token)
        else:
            break
    return text[start:end].strip()


def _contents(text: str, marker: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """The role and text of each turn, and of the text before the first turn."""
    turns = _turns(marker, text)
    if not turns:
        return
    if before := text[: turns[0].start()].strip():
        yield "system", before
    ends = [later.start() for later in turns[1:]] + [len(text)]
    for turn, end in zip(turns, ends, strict=True):
        content = text[turn.end() : end]
        if turn["role"] == "INST" and (system := _SYS.match(content)):
            yield "system", system[1]
            content = content[system.end() :]
        yield _role(turn), content
