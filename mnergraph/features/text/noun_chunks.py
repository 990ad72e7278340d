"""Noun phrase chunking: of captions, for object labels, and of sentences, for grounding.

A chunker maps words to half-open spans. ``RuleChunker`` needs only its word lists; ``SpacyChunker`` parses (install
``mnergraph[phrases]`` and a spaCy model). Neither falls back to the other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS = _words(
    """
    a an the this that these those my your his her its our their some any each every another no all both
    either neither such what which whose several one
    """
)


# Prepositions, conjunctions, pronouns, auxiliaries and adverbs, which are never inside a phrase.
CLOSED_CLASS_WORDS = _words(
    """
    of in on with and at to for from by over around about after into during through against near as
    behind under outside inside off between among above below across along beside besides before beneath
    beyond despite down up out onto toward towards upon within without via per than like while or nor but
    if because although though since until unless when where why how whether who whom there here then so
    yet not n't just only also very too i you he she it we they me him them us myself yourself himself
    herself itself ourselves themselves one's is are was were be been being am 's 're 'm 've 'll 'd has
    have had having do does did doing will would can could shall should may might must let lets it's he's
    she's that's there's i'm you're we're they're don't can't won't isn't aren't doesn't didn't together
    away apart again now never always still already ever even soon next someone somebody something anyone
    anything everyone everything nobody nothing else
    """
)


# Verbs that captions use; those that are as often nouns ("show", "play", "dress", "stand") count as nouns.
CAPTION_VERBS = _words(
    """
    says say said shows shown showed see sees seen saw take takes took taken make makes made get gets got
    give gives gave given go goes went gone come comes came put puts sit sits sat stands stood lies lay
    laid hold holds held wear wears wore worn look looks looked walks walked runs ran rides rode plays
    played speaks spoke talks talked poses posed smiles smiled celebrates celebrate celebrated performs
    performed perform arrives arrived arrive throws threw thrown scores scored wins won kicks kicked hits
    swings jumps jumped reads sings sang dances eats ate drinks watches watched waits waited becomes
    became meets met wants want know knows knew think thinks need needs seems appears appeared surrounded
    covered filled dressed parked gathered displayed decorated attached lined written reflected followed
    attend attends attended announces announced using according including featuring called named based
    told tells tell trying going getting
    """
)


#: -ing words that begin or continue a noun phrase rather than end it.
NOUNS_IN_ING = _words(
    """
    building painting drawing wedding sunning ceiling morning evening king ring string spring thing wing
    swing clothing something lightning meeting boxing skiing surfing parking living dining swimming
    shopping training racing wrestling opening blessing earring railing crossing landing recording
    lightening beijing viking sterling darling stocking dressing housing crowning bling
    """
)


#: Words that mean "unknown" to a caption model.
UNKNOWN_TOKENS = frozenset({"<unk>", "[unk]", "unk"})


POSSESSIVES = frozenset({"'s", "’s", "'", "’"})


@dataclass(frozen=True)
class Phrase:
    """A phrase to ground in an image.

    Args:
        text: the phrase.
        span: its half-open span in the sentence; None for a generic query, whose objects are grounded to all words.
    """

    text: str
    span: tuple[int, int] | None = None


class Chunker(Protocol):
    """Return the half-open spans of the words' noun phrases, in order, without overlap."""

    def __call__(self, words: Sequence[str]) -> list[tuple[int, int]]: ...


@dataclass(frozen=True)
class RuleChunker:
    """Noun phrases by rules: maximal runs of words that no rule ends.

    A run ends before punctuation, prepositions ("in front" among them), conjunctions, pronouns, auxiliaries,
    adverbs, common verbs of captions unless a determiner opens the run ("the stands"), and -ing words that
    follow another word of the run ("a man | standing"; not "a living room", "the building"), and a new one
    begins at a determiner ("each day | the team"). A run of determiners alone is no phrase. An apostrophe with a
    noun on both sides stays inside ("james harden ' s beard").

    Examples:
        >>> words = "a soccer player in action on the field".split()
        >>> [" ".join(words[start:end]) for start, end in RuleChunker()(words)]
        ['a soccer player', 'action', 'the field']
    """

    def __call__(self, words: Sequence[str]) -> list[tuple[int, int]]:
        lowered = [word.lower() for word in words]
        spans: list[tuple[int, int]] = []
        start = 0
        for position in range(len(words) + 1):
            inside = position < len(words) and self._inside(lowered, start, position)
            is_determiner = inside and lowered[position] in DETERMINERS
            if is_determiner and any(word not in DETERMINERS for word in lowered[start:position]):
                inside = False
            if not inside:
                if any(word not in DETERMINERS for word in lowered[start:position]):
                    spans.append((start, position))
                start = position if is_determiner else position + 1
        return spans

    @staticmethod
    def _inside(words: Sequence[str], start: int, position: int) -> bool:
        word = words[position]
        if word in POSSESSIVES:
            return start < position < len(words) - 1 and words[position - 1] not in DETERMINERS
        if word in CLOSED_CLASS_WORDS or word in UNKNOWN_TOKENS or not re.search(r"\w", word):
            return False
        if word == "front" and start == position and words[position - 1 : position] == ["in"]:
            return False
        before = [other for other in words[start:position] if other not in DETERMINERS]
        if word in CAPTION_VERBS and (before or start == position):
            return False
        participle = word.endswith("ing") and len(word) > 4 and word not in NOUNS_IN_ING
        # "a smiling man": between determiner and noun an -ing word is an adjective; elsewhere it is the verb.
        is_adjective = not before and start < position < len(words) - 1
        return not participle or is_adjective


@dataclass(frozen=True)
class SpacyChunker:
    """The noun chunks of a spaCy pipeline.

    Args:
        model: name or folder of the pipeline; it must have a parser.

    Raises:
        ImportError: when spaCy or the model is missing, with the command that installs it.
    """

    model: str = "en_core_web_sm"
    _pipeline: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            import spacy
        except ImportError:
            raise ImportError(
                "SpacyChunker needs spaCy: pip install 'mnergraph[phrases]', or use RuleChunker()"
            ) from None
        try:
            pipeline = spacy.load(self.model, exclude=["ner"])
        except OSError:
            raise ImportError(
                f"spaCy has no model {self.model!r}: python -m spacy download {self.model}, or use RuleChunker()"
            ) from None
        object.__setattr__(self, "_pipeline", pipeline)

    def __call__(self, words: Sequence[str]) -> list[tuple[int, int]]:
        from spacy.tokens import Doc

        if not words:
            return []
        parsed = self._pipeline(Doc(self._pipeline.vocab, words=list(words)))
        return [(chunk.start, chunk.end) for chunk in parsed.noun_chunks]


@dataclass(frozen=True)
class WholeSentence:
    """The whole sentence as one phrase, for extractors that read it (`Extractor.needs_sentence`)."""

    def __call__(self, words: Sequence[str]) -> list[tuple[int, int]]:
        """Return one span of all words."""
        return [(0, len(words))] if words else []


def noun_phrases(words: Sequence[str], chunker: Chunker) -> tuple[Phrase, ...]:
    """Return a sentence's noun phrases, for grounding.

    >>> noun_phrases("Kevin Love waves at the crowd".split(), RuleChunker())
    (Phrase(text='Kevin Love waves', span=(0, 3)), Phrase(text='the crowd', span=(4, 6)))
    """
    return tuple(Phrase(" ".join(words[start:end]), (start, end)) for start, end in chunker(words))


def phrase_labels(caption: str, chunker: Chunker) -> list[str]:
    """Return a caption's noun phrases as labels of objects: no leading determiners, no unknown words, each once.

    >>> phrase_labels("a man and another man on the field", RuleChunker())
    ['man', 'field']
    """
    joined = re.sub(r"\b(\w) - (?=\w)", r"\1-", caption)  # "t - shirt", as caption models write it
    words = re.findall(r"<unk>|\[unk\]|\w[\w&'’.-]*(?<=[\w'’])|[^\w\s]", joined, re.IGNORECASE)
    labels = []
    for start, end in chunker(words):
        while start < end and words[start].lower() in DETERMINERS:
            start += 1
        labels.append(" ".join(word for word in words[start:end] if word.lower() not in UNKNOWN_TOKENS).strip("'’"))
    return list(dict.fromkeys(label for label in labels if label))
