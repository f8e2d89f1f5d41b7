"""Numbers with their noun, as people read them."""


def count_noun(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: "1 row", "1,200 rows". `plural` is for nouns whose plural is not formed with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
