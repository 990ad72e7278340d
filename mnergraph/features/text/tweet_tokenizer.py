"""Tokenization of plain text into words as in the Twitter benchmarks, with exact character offsets.

The benchmarks were tokenized by different tools. Both separate punctuation from words, and apostrophes are words
(``don ' t``); they differ in links, mentions and hashtags: 2015 keeps ``#NWM7``, ``@BBC`` and links whole,
2017 writes ``# NBA`` and ``@ NBA`` and has no links. Whole ones are the default; ``whole_hashtags=False`` and
``whole_mentions=False`` split as 2017 does. Emoticons stay whole, as do words joined by hyphens, slashes, ampersands,
or dots and commas between digits (``no-hitter``, ``Beer/BBQ``, ``AT&T``, ``10,000``), as in 2015.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LINK = r"(?:https?://|www\.)[^\s\"<>“”]*[^\s\"<>“”.,;:!?)\]'’]"


EMOTICON = r"(?<!\w)(?:[:;=][-^']?[)(\]\[DPpOo/\\|*3]+(?!\w)|<3+(?!\w)|\^_*\^|[xX]D(?!\w))"


# 2015 writes "&amp;" as "&amp ;".
ENTITY = r"&(?:amp|lt|gt)(?!\w)"


NUMBER = r"[$£€]?\d+(?:[.,]\d+)*(?:[-/]\d+(?:[.,]\d+)*)*%?(?!\w|[-/&]\w)"


# A letter may carry combining marks, joiners and variation selectors, which belong to it.
LETTER = r"[^\W_][\u0300-\u036f\u200b-\u200d\ufe0e\ufe0f]*"


WORD = rf"(?:_|{LETTER})+(?:[-/&](?:_|{LETTER})+)*"


# One emoji: flags are two characters; joiners, modifiers and selectors combine several.
EXTEND = r"[\u200d\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff]"


EMOJI = rf"[\U0001f1e6-\U0001f1ff]{{2}}|[^\w\s]{EXTEND}+(?:(?<=\u200d)[^\w\s]{EXTEND}*)*"


DOTS = r"\.{2,}|-{2,}>?|<-+"


class Word(NamedTuple):
    """A word and its offsets: ``text[start:end]``, in characters."""

    text: str
    start: int
    end: int


def split_words(text: str, *, whole_hashtags: bool = True, whole_mentions: bool = True) -> list[Word]:
    """Return the words of a text, in order. Every character that is not white space belongs to exactly one word.

    Args:
        text: any text.
        whole_hashtags: keep ``#NBA`` as one word (2015); False gives ``#`` and ``NBA`` (2017).
        whole_mentions: keep ``@NBA`` as one word (2015); False gives ``@`` and ``NBA`` (2017).

    Examples:
        >>> [word.text for word in split_words("RT @BBC: don't miss #NBA at 4:30 :-) http://t.co/x1")]
        ['RT', '@BBC', ':', 'don', "'", 't', 'miss', '#NBA', 'at', '4', ':', '30', ':-)', 'http://t.co/x1']
    """
    rules = [LINK, EMOTICON, ENTITY, NUMBER]
    rules += [r"[#＃]\w+"] if whole_hashtags else []
    rules += [r"[@＠]\w+"] if whole_mentions else []
    pattern = "|".join([*rules, WORD, EMOJI, DOTS, r"\S"])
    return [Word(match.group(), *match.span()) for match in re.finditer(pattern, text)]
