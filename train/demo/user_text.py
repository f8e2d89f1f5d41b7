"""How people write: numbers of every look, names, openers, thanks, typos, lost capitals. Knows no intent."""

import random
import string
from collections.abc import Mapping

from train.demo import grammar
from train.demo.world import World

_KEPT = frozenset({"number", "name"})  # never respelled: the answer must copy them letter for letter
_SYLLABLES = (
    "ka",
    "lo",
    "mi",
    "ren",
    "ta",
    "vo",
    "sel",
    "dri",
    "pa",
    "nu",
    "bex",
    "or",
    "fin",
    "gul",
    "ha",
    "zem",
    "tri",
    "jo",
)


def number(rng: random.Random, world: World, kind: str | None) -> str:
    """A fresh number of that kind («order», «booking», …); without a kind, of any."""
    formats = world.words["formats"]
    pattern = rng.choice(formats[kind if kind in formats else rng.choice(sorted(formats))])
    return "".join(_character(rng, mark) for mark in pattern)


def changed_number(rng: random.Random, right: str) -> str:
    """Nearly the same number: one or two digits differ, or two have changed places. Never the same."""
    digits = [place for place, mark in enumerate(right) if mark.isdigit()]
    marks = list(right)
    for place in rng.sample(digits, rng.choice((1, 1, 2, 3))):
        marks[place] = rng.choice([digit for digit in string.digits if digit != right[place]])
    return "".join(marks)


def value(rng: random.Random, world: World, slot: str, kind: str | None) -> str:
    """A filling for a slot. Some names, products and cities are invented, so that copying is what is learnt."""
    if slot == "number":
        return number(rng, world, kind)
    if slot == "count":
        return str(rng.randint(2, 99))
    if slot == "nonsense":
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 9)))
    if slot in ("name", "city", "product", "plan", "thing", "class") and rng.random() < 0.15:
        word = "".join(rng.sample(_SYLLABLES, rng.randint(2, 3)))
        return word if slot in ("product", "thing", "class") else word.capitalize()
    return rng.choice(world.words["slots"][slot])


def dressed(rng: random.Random, world: World, sentence: str) -> str:
    """The sentence with what people put around it: a greeting, an aside, thanks. Slots stay open."""
    noise = world.words["noise"]
    pieces = [sentence]
    if rng.random() < 0.25:
        aside = grammar.pick(rng, rng.choice(noise["asides"]))
        if not (grammar.slots_of(aside) & grammar.slots_of(sentence)):
            pieces = [aside, sentence] if rng.random() < 0.5 else [sentence, aside]
    if rng.random() < 0.35:
        pieces.insert(0, rng.choice(noise["openers"]))
    if rng.random() < 0.3:
        closer = rng.choice(noise["closers"])
        if not (grammar.slots_of(closer) & grammar.slots_of(" ".join(pieces))):
            pieces.append(closer)
    return _joined(rng, pieces)


def hurried(rng: random.Random, sentence: str) -> str:
    """The sentence with a word or two left out, mostly small ones, so that no single word carries the meaning."""
    cut = sentence.split(" ")
    longest = 12 if rng.random() < 0.3 else 4
    small = [place for place, word in enumerate(cut) if len(word) <= longest and word.isalpha()]
    if len(cut) < 5 or not small:
        return sentence
    dropped = set(rng.sample(small, min(len(small), rng.choice((1, 1, 2)))))
    return " ".join(word for place, word in enumerate(cut) if place not in dropped)


def misspelt(rng: random.Random, sentence: str, share: float = 0.2) -> str:
    """The sentence as typed in a hurry: lost capitals and marks, typos. Slots are not touched."""
    cut = [[text, is_slot] for text, is_slot in grammar.parts(sentence)]
    casing = rng.random()
    for piece in cut:
        if not piece[1] and casing < 0.3:
            piece[0] = str(piece[0]).lower()
        elif not piece[1] and casing > 0.98:
            piece[0] = str(piece[0]).upper()
    if rng.random() < share:
        for _ in range(rng.choice((1, 1, 2))):
            places = [place for place, piece in enumerate(cut) if not piece[1] and len(str(piece[0])) > 5]
            if places:
                place = rng.choice(places)
                cut[place][0] = _typo(rng, str(cut[place][0]))
    text = "".join(f"{{{text}}}" if is_slot else str(text) for text, is_slot in cut)
    if casing >= 0.3 and text[:1].isalpha():
        text = text[0].upper() + text[1:]
    return text


def filled(rng: random.Random, sentence: str, values: Mapping[str, str]) -> str:
    """The sentence with its slots filled, some of the words in lower case as people type them."""
    careless = rng.random() < 0.25
    typed = {slot: text.lower() if careless and slot not in _KEPT else text for slot, text in values.items()}
    return grammar.fill(sentence, typed)


def _character(rng: random.Random, mark: str) -> str:
    if mark == "0":
        return rng.choice(string.digits)
    return rng.choice(string.ascii_uppercase) if mark == "?" else mark


def _joined(rng: random.Random, pieces: list[str]) -> str:
    text = pieces[0]
    for piece in pieces[1:]:
        follows_mark = text[-1] in ",.?!:"
        if not follows_mark:
            text += rng.choice((",", ".", ".", "", "!") if not text.endswith("}") else (",", ".", "."))
        begins = text[-1] in ".?!" and piece[:1].isalpha() and rng.random() < 0.8
        text += " " + (piece[0].upper() + piece[1:] if begins else piece)
    if text[-1] not in ".?!,:":
        text += rng.choice((".", "", "", "!")) if rng.random() < 0.7 else ""
    elif text[-1] == "?" and rng.random() < 0.3:
        text = text[:-1] + rng.choice(("", "??", " ?"))
    return text


def _typo(rng: random.Random, text: str) -> str:
    letters = [place for place in range(1, len(text) - 1) if text[place].isalpha() and text[place + 1].isalpha()]
    if not letters:
        return text
    place = rng.choice(letters)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:place] + text[place + 1 :]
    if kind == 1:
        return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    if kind == 2:
        return text[:place] + text[place] + text[place:]
    return text[:place] + rng.choice(string.ascii_lowercase) + text[place + 1 :]
