"""Tokenization of plain text into words as in the Twitter benchmarks, with exact character offsets.

The benchmarks were tokenized by different tools. Both separate punctuation from words, and apostrophes are words
(``don ' t``); they differ in links, mentions and hashtags: 2015 keeps ``#NWM7``, ``@BBC`` and links whole,
2017 writes ``# NBA`` and ``@ NBA`` and has no links. Whole ones are the default; ``whole_hashtags=False`` and
``whole_mentions=False`` split as 2017 does. Emoticons stay whole, as do words joined by hyphens, slashes, ampersands,
or dots and commas between digits (``no-hitter``, ``Beer/BBQ``, ``AT&T``, ``10,000``), as in 2015.

All other boundaries are those of Unicode Standard Annex 29, in every script: a letter keeps its marks and vowel signs,
an emoji all its parts, and each Chinese character and each Hiragana letter is a word. Thai, Lao, Khmer and Burmese,
whose words the annex leaves to dictionaries, are whole up to the next space or zero-width space.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import regex

#: What belongs to the character before it: marks, vowel signs, joiners, variation selectors, skin tones, soft hyphens.
EXTEND = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]"
#: White space, as Python's `str.split` has it.
SPACE = r"\s\x1c-\x1f"
#: Letters and digits whose runs are words: those of alphabets, and what else Python's ``\w`` has, such as ½.
ALPHABETIC = r"\p{WB=ALetter}\p{WB=Hebrew_Letter}\p{WB=Numeric}[\p{N}--\p{Extended_Pictographic}]"
#: Letters of Thai, Lao, Khmer and Burmese.
COMPLEX = r"[\p{LB=Complex_Context}&&\p{L}]"
#: What may stand within a hashtag or mention.
IN_WORD = rf"[\p{{L}}{ALPHABETIC}\p{{WB=Katakana}}_]"


LINK = rf"(?:https?://|www\.)[^{SPACE}\"<>“”]*[^{SPACE}\"<>“”.,;:!?)\]'’]"


EMOTICON = rf"(?<!{IN_WORD})(?:[:;=][-^']?[)(\]\[DPpOo/\\|*3]+(?!{IN_WORD})|<3+(?!{IN_WORD})|\^_*\^|[xX]D(?!{IN_WORD}))"


# 2015 writes "&amp;" as "&amp ;".
ENTITY = rf"&(?:amp|lt|gt)(?!{IN_WORD})"


KEYCAP = r"[0-9#*]\ufe0f?\u20e3"


NUMBER = rf"[$£€]?\d+(?:[.,٫٬]\d+)*(?:[-/]\d+(?:[.,٫٬]\d+)*)*%?{EXTEND}*+(?!{IN_WORD}|[-/&]{IN_WORD})"


# Within words: the marks that UAX 29 has there, such as the dot of Catalan and the quotes of Hebrew, but no colon; and
# as in 2015 hyphen, slash and ampersand.
LETTER, HEBREW = r"[\p{WB=ALetter}\p{WB=Hebrew_Letter}]", r"\p{WB=Hebrew_Letter}"
MIDDLE, QUOTE = r"[\p{WB=MidLetter}--[:︓﹕：]]", r"['\"]"
JOINER = (
    rf"(?:[-/&]|{MIDDLE}(?<={LETTER}{EXTEND}*{MIDDLE})(?={EXTEND}*+{LETTER})"
    rf"|{QUOTE}(?<={HEBREW}{EXTEND}*{QUOTE})(?={EXTEND}*+{HEBREW}))"
)


WORD_RUN = rf"(?:[{ALPHABETIC}_]{EXTEND}*+)++"


WORD = rf"{WORD_RUN}(?:{JOINER}{EXTEND}*+{WORD_RUN})*+"


KATAKANA_WORD = rf"(?:[\p{{WB=Katakana}}_]{EXTEND}*+)++"


COMPLEX_WORD = rf"(?:{COMPLEX}{EXTEND}*+)++"


FLAG = rf"\p{{WB=Regional_Indicator}}{EXTEND}*+\p{{WB=Regional_Indicator}}"


DOTS = r"\.{2,}|-{2,}>?|<-+"


# After a joiner the next emoji belongs to the word. A zero-width space ends a word.
END = rf"{EXTEND}*+(?:(?<=\u200d)\p{{Extended_Pictographic}}{EXTEND}*+)*+\u200b*+"


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
    pattern = _pattern(whole_hashtags, whole_mentions)
    return [Word(match.group(), *match.span()) for match in pattern.finditer(text)]


@cache
def _pattern(whole_hashtags: bool, whole_mentions: bool) -> regex.Pattern[str]:
    rules = [LINK, EMOTICON, ENTITY, KEYCAP, NUMBER]
    rules += [rf"[#＃](?:{IN_WORD}{EXTEND}*+)++"] if whole_hashtags else []
    rules += [rf"[@＠](?:{IN_WORD}{EXTEND}*+)++"] if whole_mentions else []
    # what is left is a word of its own: Chinese characters, Hiragana, emoji, punctuation
    rules += [WORD, KATAKANA_WORD, COMPLEX_WORD, FLAG, DOTS, rf"[^{SPACE}]"]
    return regex.compile(rf"(?:{'|'.join(rules)}){END}", regex.VERSION1)
