"""Tokenization of plain text into words as in the Twitter benchmarks, with exact character offsets.

The benchmarks were tokenized by different tools. Both separate punctuation from words, and apostrophes are words
(``don ' t``); they differ in links, mentions and hashtags: 2015 keeps ``#NWM7``, ``@BBC`` and links whole,
2017 writes ``# NBA`` and ``@ NBA`` and has no links. Whole ones are the default; ``whole_hashtags=False`` and
``whole_mentions=False`` split as 2017 does. Emoticons stay whole, as do words joined by hyphens, slashes, ampersands,
or dots and commas between digits (``no-hitter``, ``Beer/BBQ``, ``AT&T``, ``10,000``), as in 2015. In every script a
letter keeps its marks and vowel signs, and an emoji all its parts (Unicode Standard Annex 29).
"""

from __future__ import annotations

from typing import NamedTuple

import regex

#: What belongs to the character before it: combining marks and vowel signs, joiners, variation selectors.
EXTEND = r"[\p{M}\u200b-\u200d\ufe0e\ufe0f]"
#: What may stand within words, as Python's ``\w``.
IN_WORD = r"[\p{L}\p{N}_]"
#: White space, as Python's `str.split` has it.
SPACE = r"\s\x1c-\x1f"


LINK = rf"(?:https?://|www\.)[^{SPACE}\"<>“”]*[^{SPACE}\"<>“”.,;:!?)\]'’]"


EMOTICON = rf"(?<!{IN_WORD})(?:[:;=][-^']?[)(\]\[DPpOo/\\|*3]+(?!{IN_WORD})|<3+(?!{IN_WORD})|\^_*\^|[xX]D(?!{IN_WORD}))"


# 2015 writes "&amp;" as "&amp ;".
ENTITY = rf"&(?:amp|lt|gt)(?!{IN_WORD})"


KEYCAP = r"[0-9#*]\ufe0f?\u20e3"


NUMBER = rf"[$£€]?\d+(?:[.,]\d+)*(?:[-/]\d+(?:[.,]\d+)*)*%?(?!{IN_WORD}|{EXTEND}|[-/&]{IN_WORD})"


# By UAX 29 each Chinese character and each Hiragana letter is a word; it leaves Thai, Lao, Khmer and Burmese, which are
# written without spaces too, to dictionaries, and here they are whole up to the next space.
IDEOGRAPH = rf"[\p{{Han}}\p{{Hiragana}}]{EXTEND}*"


LETTER = rf"(?![\p{{Han}}\p{{Hiragana}}])[\p{{L}}\p{{N}}]{EXTEND}*"


WORD = rf"(?:_|{LETTER})+(?:[-/&](?:_|{LETTER})+)*"


# One emoji: flags are two characters; joiners, modifiers, selectors and tags combine several.
EMOJI_EXTEND = r"[\u200d\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"


EMOJI = (
    rf"[\U0001f1e6-\U0001f1ff]{{2}}"
    rf"|[^\p{{L}}\p{{N}}_{SPACE}]{EMOJI_EXTEND}+(?:(?<=\u200d)[^\p{{L}}\p{{N}}_{SPACE}]{EMOJI_EXTEND}*)*"
)


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
    rules = [LINK, EMOTICON, ENTITY, KEYCAP, NUMBER]
    rules += [rf"[#＃](?:{IN_WORD}{EXTEND}*)+"] if whole_hashtags else []
    rules += [rf"[@＠](?:{IN_WORD}{EXTEND}*)+"] if whole_mentions else []
    pattern = "|".join([*rules, WORD, IDEOGRAPH, EMOJI, DOTS, rf"[^{SPACE}]\p{{M}}*"])
    return [Word(match.group(), *match.span()) for match in regex.finditer(pattern, text)]
