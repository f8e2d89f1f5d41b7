"""Fields beside a row's conversation that are not text and still concern its training: images, weights, verdicts.

Images that the text refers to are refused. Weights of a whole row and verdicts on its answer are reported, because the
row is trained on as if they were not there.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from train.data.answer_labels import read_label
from train.data.conversations import ChatMessage
from train.data.row_fields import RowError
from train.data.unread_fields import UnreadField

Row = Mapping[str, Any]

MEDIA = ("image", "images", "video", "videos", "audio", "audios")
_MEDIA_NAME = re.compile(r"(?:^|_)(images?|imgs?|pictures?|photos?|pixel|videos?|audios?)(?:_|$)", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"<\|?(?:image|img|video|audio)(?:_pad|_?\d+)?\|?>|\[IMG\]")
_ADDRESS = re.compile(r"\S*[./]\S*")  # of a file, in one word
_WEIGHTS = re.compile(r"(?:sample_|example_)?weights?|loss_mask|loss|training|train", re.IGNORECASE)
_FLAGS = ("loss", "training", "train")  # as numbers these are figures, such as the loss of an earlier run
_GOOD = re.compile(r"(?:^|_)(?:accepted|approved|correct|good|helpful|liked|preferred|upvoted|chosen)$", re.IGNORECASE)
_BAD = re.compile(r"(?:^|_)(?:rejected|bad|disliked|downvoted|thumbs_down|incorrect|wrong)$", re.IGNORECASE)
_RATED = re.compile(r"(?:^|_)(?:rating|feedback|thumbs?|votes?|verdict|preference|quality)$", re.IGNORECASE)


def refuse_media(line: int, row: Row, used: Sequence[str], messages: Sequence[ChatMessage]) -> Iterator[UnreadField]:
    """The fields that name an image, video or audio file without which the text still makes sense.

    Raises:
        RowError: the row contains an image, video or audio that belongs to the text.
    """
    referred = any(_PLACEHOLDER.search(message.content) for message in messages)
    for name, value in row.items():
        match = _MEDIA_NAME.search(str(name))
        if not match or not value or name in used:
            continue
        if referred or (name in MEDIA and not isinstance(value, str)):
            word = match[1].lower()
            kind = word.rstrip("s") if word[0] in "va" else "images"
            mend = f"remove the line, or remove `{name}` to train on the text alone"
            raise RowError(f"`{name}`: only text can be trained on, not {kind}", mend, "not-text")
        if name in MEDIA or (isinstance(value, str) and _ADDRESS.fullmatch(value.strip())):
            yield UnreadField(line, str(name), "names a file", f"remove `{name}`, or leave it under `metadata`")


def unread_flags(line: int, row: Row, used: Sequence[str]) -> Iterator[UnreadField]:
    """The weights of a whole row, and the verdicts that its answer is bad."""
    for name, value in row.items():
        text = str(name)
        if name in used:
            continue
        if _WEIGHTS.fullmatch(text) and _is_weight(text, value):
            mend = f'put "weight": 0 on answers without loss, and remove `{text[:80]}`'
            yield UnreadField(line, text, "is a weight of the whole row", mend)
        elif _says_bad(text, value):
            mend = "remove these rows, or call the field `label` to train with KTO"
            yield UnreadField(line, text, "says that the answer is bad", mend)


def _is_weight(name: str, value: Any) -> bool:
    if name.lower() in _FLAGS:
        return value is False
    weights = value if isinstance(value, list) else [value]
    return any(isinstance(weight, bool | int | float) and weight != 1 for weight in weights)


def _says_bad(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return bool((_BAD if value else _GOOD).search(name))
    return (
        isinstance(value, str)
        and not value.strip().isdigit()
        and bool(_RATED.search(name))
        and read_label(value) is False
    )
