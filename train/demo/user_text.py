"""How users write: numbers of every format, names, greetings, thanks, typos, lost capitals. It knows no intent.

Training text is noisy on purpose, so that models are robust; `clean` gives text for the prompts that people see.
"""

import random
import re
import string
from collections.abc import Mapping

from train.demo import grammar
from train.demo.catalogue import Catalogue

_KEPT = frozenset({"number", "name"})  # never changed: the answer must copy them letter for letter
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


def number(rng: random.Random, catalogue: Catalogue, kind: str | None) -> str:
    """A random number of a kind ("order", "booking", …), or of any kind."""
    formats = catalogue.words["formats"]
    pattern = rng.choice(formats[kind if kind in formats else rng.choice(sorted(formats))])
    return "".join(_character(rng, mark) for mark in pattern)


def changed_number(rng: random.Random, right: str) -> str:
    """A number in which one to three digits differ."""
    digits = [place for place, mark in enumerate(right) if mark.isdigit()]
    marks = list(right)
    for place in rng.sample(digits, rng.choice((1, 1, 2, 3))):
        marks[place] = rng.choice([digit for digit in string.digits if digit != right[place]])
    return "".join(marks)


def value(rng: random.Random, catalogue: Catalogue, slot: str, kind: str | None, *, invented: bool = True) -> str:
    """A value for a slot. With `invented`, some names, products and cities are made up, so that copying is learnt."""
    if slot == "number":
        return number(rng, catalogue, kind)
    if slot == "count":
        return str(rng.randint(2, 99))
    if slot == "nonsense":
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 9)))
    if invented and slot in ("name", "city", "product", "plan", "thing", "class") and rng.random() < 0.15:
        word = "".join(rng.sample(_SYLLABLES, rng.randint(2, 3)))
        return word if slot in ("product", "thing", "class") else word.capitalize()
    return rng.choice(catalogue.words["slots"][slot])


def add_noise(rng: random.Random, catalogue: Catalogue, sentence: str) -> str:
    """The sentence with a greeting, an aside or thanks around it. Slots stay open."""
    noise = catalogue.words["noise"]
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


def clean(rng: random.Random, catalogue: Catalogue, sentence: str, *, framed: bool = True) -> str:
    """The sentence with capitals and end marks and without typos; `framed`: sometimes with a greeting or thanks."""
    text = sentence[0].upper() + sentence[1:]
    text = re.sub(r"(?<=[?!.] )[a-z]", lambda letter: letter[0].upper(), text)
    text += "" if text[-1] in "?!." else "."
    words = catalogue.words["clean"]
    if framed and rng.random() < 0.3:
        text = f"{rng.choice(words['greetings'])} {text}"
    if framed and rng.random() < 0.2:
        text = f"{text} {rng.choice(words['closers'])}"
    return text


def drop_words(rng: random.Random, sentence: str) -> str:
    """The sentence with one or two words left out, mostly small ones, so that no single word carries the meaning."""
    cut = sentence.split(" ")
    longest = 12 if rng.random() < 0.3 else 4
    small = [place for place, word in enumerate(cut) if len(word) <= longest and word.isalpha()]
    if len(cut) < 5 or not small:
        return sentence
    dropped = set(rng.sample(small, min(len(small), rng.choice((1, 1, 2)))))
    return " ".join(word for place, word in enumerate(cut) if place not in dropped)


def add_typos(rng: random.Random, sentence: str, share: float = 0.2) -> str:
    """The sentence as typed in a hurry: lost capitals, typos. Slots are not changed."""
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


def fill_slots(rng: random.Random, sentence: str, values: Mapping[str, str]) -> str:
    """The sentence with its slots filled, some of the values in lower case."""
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
