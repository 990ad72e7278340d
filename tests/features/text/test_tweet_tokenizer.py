from itertools import pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import example, given
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
        ("1️⃣2️⃣ #️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿👩🏽‍🚀👨‍👩‍👧‍👦 ❤️☺", "1️⃣ 2️⃣ #️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👩🏽‍🚀 👨‍👩‍👧‍👦 ❤️ ☺"),
        ("  ", ""),
    ],
)
def test_words(text: str, words: str) -> None:
    assert texts(text) == words.split()


@given(st.text(st.characters(categories=("L", "M")), min_size=1, max_size=8))
def test_no_letter_loses_its_marks(text: str) -> None:
    """No word begins where UAX 29 has no boundary between characters (``\\X``), in any script."""
    starts = {match.start() for match in regex.finditer(r"\X", text)}
    assert {word.start for word in split_words(text)} <= starts


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
