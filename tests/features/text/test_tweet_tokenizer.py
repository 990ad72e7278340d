from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnergraph.data.formats.conll import read_conll
from mnergraph.features.text.tweet_tokenizer import split_words


def texts(text: str, **options: bool) -> list[str]:
    return [word.text for word in split_words(text, **options)]


@given(st.text(), st.booleans(), st.booleans())
@example("naïve cafe\u0301 👩‍👩‍👧 🇫🇷🇫🇷 ❤️ a\u200bb \u200d x\u00a0y\u2028z\x85w", True, True)
@example("https://", True, True)
def test_offsets_are_exact_and_complete(text: str, hashtags: bool, mentions: bool) -> None:
    found = split_words(text, whole_hashtags=hashtags, whole_mentions=mentions)
    assert all(text[start:end] == word for word, start, end in found)
    assert all(before.end <= after.start for before, after in pairwise(found))
    assert "".join(word.text for word in found) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Cubs win! #Cubs 2, #Dodgers 0", "Cubs win ! #Cubs 2 , #Dodgers 0"),
        ('RT @ESPN_FirstTake: "I think"', 'RT @ESPN_FirstTake : " I think "'),
        ("I'm at Rooney’s", "I ' m at Rooney ’ s"),
        (
            "see http://t.co/Pd_MvD, or (www.x.org/a?b=1).",
            "see http://t.co/Pd_MvD , or ( www.x.org/a?b=1 ) .",
        ),
        (":) :-( <3 :D :/ 4:30", ":) :-( <3 :D :/ 4 : 30"),
        ("10,000 fans paid $4.99, 41% in 2014-15", "10,000 fans paid $4.99 , 41% in 2014-15"),
        ("AT&T no-hitter w/ Beer/BBQ &amp; more...", "AT&T no-hitter w / Beer/BBQ &amp ; more ..."),
        ("great😂😂 👍🏽 👩‍👩‍👧 🇫🇷🇩🇪", "great 😂 😂 👍🏽 👩‍👩‍👧 🇫🇷 🇩🇪"),
        ("हिन्दी में #हिन्दी @राम !", "हिन्दी में #हिन्दी @राम !"),
        ("தமிழ்நாடு ক্ষ १२३", "தமிழ்நாடு ক্ষ १२३"),
        ("مُحَمَّد, שָׁלוֹם", "مُحَمَّد , שָׁלוֹם"),
        ("สวัสดี ครับ", "สวัสดี ครับ"),
        ("北京 です カタカナ #東京", "北 京 で す カタカナ #東京"),
        ("Tシャツ iPhoneรุ่น15 BTS가", "T シャツ iPhone รุ่น 15 BTS가"),
        ("paral·lel, צה״ל צה\"ל ג'ירפה", "paral·lel , צה״ל צה\"ל ג'ירפה"),
        ("co\u00adop 4.5\u200f, #می\u200cخواهم", "co\u00adop 4.5\u200f , #می\u200cخواهم"),
        ("ភាសា\u200bខ្មែរ @a\u200bb", "ភាសា\u200b ខ្មែរ @a\u200b b"),
        ("ⓗⓔⓛⓛⓞ 𝓗𝓮𝓵 m² ㊗️㊗️ ۱۲٫۵", "ⓗⓔⓛⓛⓞ 𝓗𝓮𝓵 m² ㊗️ ㊗️ ۱۲٫۵"),
        ("1️⃣2️⃣ #️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿👩🏽‍🚀👨‍👩‍👧‍👦 ❤️☺", "1️⃣ 2️⃣ #️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👩🏽‍🚀 👨‍👩‍👧‍👦 ❤️ ☺"),
        ("  ", ""),
    ],
)
def test_words(text: str, words: str) -> None:
    assert texts(text) == words.split()


@cache
def characters_of(classes: str) -> list[str]:
    """Return all characters of a set of Unicode properties."""
    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    return regex.findall(classes, every, regex.VERSION1)


CLASSES = (
    *(
        rf"[\p{{WB={name}}}--\p{{LB=SA}}]"
        for name in ("ALetter", "Hebrew_Letter", "Numeric", "Katakana", "Format", "ZWJ")
    ),
    r"[\p{WB=Extend}--\u20e3]",
    r"\p{WB=Regional_Indicator}",
    r"[\p{Han}&&\p{L}]",
    r"\p{Hiragana}",
    r"[\p{Extended_Pictographic}--\p{L}]",
    r"[\p{WB=MidLetter}--[:︓﹕：]]",
)
UNICODE_TEXTS = st.lists(
    st.deferred(lambda: st.one_of(st.sampled_from(characters_of(classes)) for classes in CLASSES)), max_size=6
).map("".join)


@given(UNICODE_TEXTS)
@settings(max_examples=400, deadline=None)
def test_boundaries_are_those_of_unicode(text: str) -> None:
    """Words of all scripts, emoji and flags are those of UAX 29; `regex` has its boundaries, too."""
    expected = {match.start() for match in regex.finditer(r"(?w)\b", text)} | {0}
    assert {word.start for word in split_words(text)} == expected - {len(text)}


def test_hashtags_and_mentions_apart_as_2017_has_them() -> None:
    assert texts("#NBA @NBA", whole_hashtags=False, whole_mentions=False) == ["#", "NBA", "@", "NBA"]
    assert texts("#NBA @NBA") == ["#NBA", "@NBA"]


@pytest.mark.parametrize(("name", "whole", "least"), [("twitter2015", True, 0.92), ("twitter2017", False, 0.98)])
def test_agrees_with_the_benchmarks(shared: Path, name: str, whole: bool, least: float) -> None:
    """Words of a benchmark's post, joined by spaces, are split into the same words, except truncated links."""
    posts = read_conll(shared / name / "test.txt")
    same = [
        tuple(texts(" ".join(pair.words), whole_hashtags=whole, whole_mentions=whole)) == pair.words for pair in posts
    ]
    assert sum(same) / len(posts) > least
