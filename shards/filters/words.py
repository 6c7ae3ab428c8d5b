"""Words of a text: runs of letters and digits, in lower case. Everything else only separates them."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """The words in their order, repeated ones repeated."""
    return [word.lower() for word in _WORD.findall(text)]


def has_phrase(text_words: list[str], phrase: tuple[str, ...]) -> bool:
    """Whether the words of `phrase` (at least one) stand in the text one behind the other."""
    width, first = len(phrase), phrase[0]
    return any(
        text_words[at] == first and tuple(text_words[at : at + width]) == phrase
        for at in range(len(text_words) - width + 1)
    )
