"""Word pieces of three families of tokenizers, and windows over long texts."""

from __future__ import annotations

import pickle
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from mnergraph.features.text import word_pieces as text
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.features.text.word_pieces import WordTokenizer, best_windows, windows

LINES = [
    "Paris in the rain , RT @user : so happy #blessed http://t.co/abc",
    "the Hilton hotel opens in Paris and the rain falls on the hotel",
    "l'été à la plage with naïve café friends 😀 tonight !!!",
]
UNUSUAL_WORDS = [
    "😀", "👩\u200d👩\u200d👧", "❤\ufe0f", "\ufe0f", "🇫🇷", "e\u0301", "\u0301", "café", "\u200b", "\u200d",
    "\ufeff", "\u200e", "\u00ad", "co\u00adop", " ", "a b", "\u3000", "http://t.co/Ab?x=1&y=%20", "@user",
    "#now", "...", "\x00", "\t", "ß", "İ", "漢字", "[CLS]", "##ing", "▁", "Ġ",
]  # fmt: skip
WORDS = st.one_of(
    st.sampled_from(UNUSUAL_WORDS),
    st.sampled_from(" ".join(LINES).split()),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
)


def wrapped(inner: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


@cache
def byte_level() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer like RoBERTa's."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(LINES, trainer)
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=True)
    return wrapped(inner, unk_token="<unk>", pad_token="<pad>")


@cache
def unigram() -> PreTrainedTokenizerFast:
    """Return a unigram tokenizer like those of XLM-R and DeBERTa."""
    inner = Tokenizer(models.Unigram())
    inner.normalizer = normalizers.NFKC()
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    inner.train_from_iterator(LINES, trainer)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return wrapped(inner, unk_token="<unk>", pad_token="<pad>")


@cache
def word_piece() -> PreTrainedTokenizerFast:
    return tiny_encoder(["paris", "rain", "été"], hidden_size=8).tokenizer.tokenizer


TOKENIZERS = pytest.mark.parametrize("make", [word_piece, byte_level, unigram])


@TOKENIZERS
@given(words=st.lists(WORDS, min_size=1, max_size=6))
@settings(max_examples=80, deadline=None)
def test_equals_the_tokenizer_on_the_whole_sentence(make, words: list[str]) -> None:
    pieces = WordTokenizer(make())
    found = pieces(words)
    assert len(found) == len(words)
    assert all(found), "every word has a piece"
    whole = make()(words, is_split_into_words=True)
    ids, owner = whole["input_ids"], whole.word_ids()
    expected = [tuple(i for i, w in zip(ids, owner, strict=True) if w == index) for index in range(len(words))]
    assert found == [word or (pieces.unknown,) for word in expected]
    inner = [piece for word in expected for piece in word]
    assert ids == [*pieces.start, *inner, *pieces.end]


@TOKENIZERS
def test_unusual_words_have_pieces(make) -> None:
    pieces = WordTokenizer(make())
    alone = [pieces([word])[0] for word in UNUSUAL_WORDS]
    assert all(alone)
    assert WordTokenizer(make())(UNUSUAL_WORDS) == alone, "pieces do not depend on neighboring words"


def test_erased_words_become_unknown() -> None:
    pieces = WordTokenizer(word_piece())
    for word in ("\u200b", "\u00ad", " ", "\ufe0f", "\ufeff", "\x00"):
        assert pieces([word]) == [(pieces.unknown,)], ascii(word)
    assert pieces(["paris", "\u200b"]) != pieces(["paris", "rain"])


@TOKENIZERS
def test_special_pieces(make) -> None:
    pieces = WordTokenizer(make())
    tokenizer = make()
    names = {word_piece: ("[CLS]", "[SEP]"), byte_level: ("<s>", "</s>"), unigram: ("<s>", "</s>")}[make]
    assert (pieces.start, pieces.end) == tuple((tokenizer.convert_tokens_to_ids(name),) for name in names)
    assert pieces.unknown == tokenizer.unk_token_id
    assert pieces.padding == tokenizer.pad_token_id


def test_a_tokenizer_without_special_pieces() -> None:
    inner = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pieces = WordTokenizer(wrapped(inner, unk_token="?"))
    assert (pieces.start, pieces.end, pieces.padding) == ((), (), pieces.unknown)
    assert pieces(["a", "b", " "]) == [(0,), (1,), (1,)]


def test_padding_stands_in_for_unknown() -> None:
    inner = Tokenizer(models.BPE({"a": 0, "_": 1}, []))  # other characters vanish
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert WordTokenizer(wrapped(inner, pad_token="_"))(["a", "b"]) == [(0,), (1,)]
    with pytest.raises(ValueError, match="has neither an unknown nor a padding token"):
        WordTokenizer(wrapped(inner))


def test_slow_tokenizers() -> None:
    tokenizer = ByT5Tokenizer()
    pieces = WordTokenizer(tokenizer)
    assert (pieces.start, pieces.end) == ((), (tokenizer.eos_token_id,))
    words = ["In", "Rom", "😀"]
    inner = [piece for word in pieces(words) for piece in word]
    assert inner == tokenizer(" " + " ".join(words), add_special_tokens=False)["input_ids"]


def test_spaces_before_words_as_in_running_text() -> None:
    """A byte-level tokenizer that adds no space, as ModernBERT's: its fast form ignores ``add_prefix_space``."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], initial_alphabet=alphabet)
    inner.train_from_iterator(["he wins in Rome"] * 9, trainer)
    tokenizer = wrapped(inner, unk_token="<unk>")
    words = ["then", "he", "wins", "in", "Rome", ",", "naïve"]
    found = [piece for word in WordTokenizer(tokenizer)(words) for piece in word]
    assert found == tokenizer(" " + " ".join(words))["input_ids"]
    assert "ĠRome" in tokenizer.convert_ids_to_tokens(found)


def test_tokenizers_of_whole_sentences_are_refused() -> None:
    inner = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    with pytest.raises(ValueError, match="gives words in running text other pieces than on their own"):
        WordTokenizer(wrapped(inner, unk_token="?"))


def test_several_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "CACHE_SIZE", 40)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        shared, alone = WordTokenizer(byte_level()), WordTokenizer(byte_level())
        texts = [[f"w{number}", f"x{number % 7}", "Rome"] for number in range(400)]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(shared, texts)) == [alone(words) for words in texts]
    finally:
        sys.setswitchinterval(interval)


def test_threads_call_a_tokenizer_one_after_another() -> None:
    """Slow tokenizers are no more safe than their own caches, and fast ones keep settings during a call."""

    class Watched(PreTrainedTokenizerFast):
        calls = 0

        def __call__(self, *args: Any, **settings: Any) -> Any:
            Watched.calls += 1
            try:
                time.sleep(0.001)
                assert Watched.calls == 1, "two calls at once"
                return super().__call__(*args, **settings)
            finally:
                Watched.calls -= 1

    tokenizer = Watched(tokenizer_object=byte_level().backend_tokenizer, unk_token="<unk>", pad_token="<pad>")
    # two models may share a tokenizer
    both = [WordTokenizer(tokenizer), WordTokenizer(tokenizer)]
    alone = WordTokenizer(byte_level())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: both[index % 2]([f"w{index}"]), range(40)))
    assert found == [alone([f"w{index}"]) for index in range(40)]


@pytest.mark.parametrize("length", [1001, 100_000])
def test_a_word_too_long_to_be_read_is_unknown(length: int) -> None:
    pieces = WordTokenizer(word_piece())
    assert pieces(["z" * length]) == [(pieces.unknown,)]


def test_word_piece_never_splits_longer_words() -> None:
    """WordPiece takes hours for a word of 100,000 characters, whatever length its tokenizer allows."""
    inner = Tokenizer(models.WordPiece({"?": 0, "z": 1, "##z": 2}, unk_token="?", max_input_chars_per_word=10**6))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pieces = WordTokenizer(wrapped(inner, unk_token="?"))
    limit = text.MAX_WORD_PIECE_CHARACTERS
    assert pieces(["z" * limit]) == [(1, *[2] * (limit - 1))]
    assert pieces(["z" * (limit + 1), "z" * 100_000]) == [(0,), (0,)]
    inner.model.max_input_chars_per_word = 3
    assert WordTokenizer(wrapped(inner, unk_token="?"))(["zzz", "zzzz"]) == [(1, 2, 2), (0,)], "lower limits are kept"


def test_a_very_long_word() -> None:
    assert len(WordTokenizer(word_piece())(["z" * 600])[0]) == 600


def test_the_cache_is_emptied_when_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is emptied when full, also within a sentence of cached and new words."""
    monkeypatch.setattr(text, "CACHE_SIZE", 5)
    pieces, fresh = WordTokenizer(word_piece()), WordTokenizer(word_piece())
    for words in (["a", "b", "c"], ["a", "b", "c", "d"], ["d", "e", "f", "a"], list("abcdefgh"), ["h", "a"]):
        assert pieces(words) == [fresh([word])[0] for word in words]
    assert len(pieces._pieces) <= 8


def test_pickled_without_its_cache() -> None:
    pieces = WordTokenizer(word_piece())
    expected = pieces(["paris", "zz"])
    again = pickle.loads(pickle.dumps(pieces))
    assert again._pieces == {}
    assert again(["paris", "zz"]) == expected


# --- windows


@given(st.integers(0, 60), st.integers(1, 20))
@settings(deadline=None)
def test_windows_cover_the_text(length: int, capacity: int) -> None:
    spans = windows(length, capacity)
    assert {piece for span in spans for piece in span} == set(range(length))
    assert all(len(span) <= capacity for span in spans)
    assert spans[0].start == 0
    assert spans[-1].stop == length
    if length <= capacity:
        assert spans == [range(length)]
        return
    assert all(len(span) == capacity for span in spans)
    for one, other in pairwise(spans):
        assert 0 < other.start - one.start <= max(1, capacity // 2)
        assert capacity == 1 or other.start < one.stop, "windows overlap"


@given(st.integers(1, 60), st.integers(1, 20))
@settings(deadline=None)
def test_best_windows_have_most_context(length: int, capacity: int) -> None:
    """No other window has more context of a piece on the side with less context."""
    spans = windows(length, capacity)
    chosen = best_windows(length, spans)
    assert len(chosen) == length

    def shorter_context(piece: int, span: range) -> int:
        sides = []
        if span.start > 0:
            sides.append(piece - span.start)
        if span.stop < length:
            sides.append(span.stop - 1 - piece)
        return min(sides, default=length)

    for piece, w in enumerate(chosen):
        assert piece in spans[w]
        assert all(shorter_context(piece, span) <= shorter_context(piece, spans[w]) for span in spans if piece in span)
    assert chosen == sorted(chosen)


def test_windows_need_capacity() -> None:
    with pytest.raises(ValueError, match="a window holds at least one piece, not 0"):
        windows(5, 0)
