"""The text baselines against plain torch and torchcrf."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torchcrf
from torch import Tensor

from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import collate
from mnergraph.labels import LabelSet
from mnergraph.models import BERT, BERTCRF, Tagger
from mnergraph.pair import Pair

LABELS = LabelSet.from_types(["PER", "LOC"])
POSTS = [
    Pair(("bob", "Lee", "saw", "paris", "today"), ("B-PER", "I-PER", "O", "B-LOC", "O"), "a"),
    Pair(("oslo", "!"), ("B-LOC", "O"), "b"),
]


def hugging_face(model: Tagger, words: tuple[str, ...], pooling: str = "first") -> Tensor:
    """States of the words, [words, width], by the tokenizer and the encoder alone."""
    encoded = model.encoder.tokenizer.tokenizer([list(words)], is_split_into_words=True, return_tensors="pt")
    states = model.encoder.model(**encoded).last_hidden_state[0]
    owner = encoded.word_ids(0)
    rows = [[position for position, word in enumerate(owner) if word == expected] for expected in range(len(words))]
    if pooling == "first":
        return torch.stack([states[row[0]] for row in rows])
    pooled = [states[row].mean(0) if pooling == "mean" else states[row].sum(0) for row in rows]
    return torch.stack(pooled)


@pytest.mark.parametrize("pooling", ["first", "mean", "sum"])
def test_bert_is_a_linear_map_and_a_softmax(pooling: str) -> None:
    torch.manual_seed(0)
    model = BERT(tiny_encoder(["bob", "saw"], hidden_size=16), LABELS, pooling=pooling).eval()  # type: ignore[arg-type]
    graph = model(collate(model.builder.build_all(POSTS)))
    linear = model.layers[-1].linear
    scores = [linear(hugging_face(model, post.words, pooling)) for post in POSTS]
    torch.testing.assert_close(graph.emissions["tags"], torch.cat(scores), rtol=1e-5, atol=1e-5)
    gold = [torch.tensor([LABELS.index(tag) for tag in post.labels or ()]) for post in POSTS]
    losses = [
        torch.nn.functional.cross_entropy(score, target, reduction="sum")
        for score, target in zip(scores, gold, strict=True)
    ]
    torch.testing.assert_close(model.loss(graph), torch.stack(losses).mean())
    assert model.decode_tags(graph) == [[LABELS.tags[best] for best in score.argmax(-1)] for score in scores]
    for post, score, found in zip(POSTS, scores, model.decode_entities(graph), strict=True):
        chances = score.softmax(-1)
        for entity in found:
            tags = [f"B-{entity.type}"] + [f"I-{entity.type}"] * (entity.end - entity.start - 1)
            rows = [chances[entity.start + position, LABELS.index(tag)] for position, tag in enumerate(tags)]
            # an I- that does not continue an entity of its type begins one, too
            begun = chances[entity.start, LABELS.index(f"I-{entity.type}")]
            if entity.start:
                before = [LABELS.index(f"{prefix}-{entity.type}") for prefix in "BI"]
                begun = begun * (1 - chances[entity.start - 1, before].sum())
            expected = torch.stack([rows[0] + begun, *rows[1:]]).prod()
            if entity.end < len(post.words):
                expected = expected * (1 - chances[entity.end, LABELS.index(f"I-{entity.type}")])
            assert entity.score == pytest.approx(expected.item(), rel=1e-4)


def test_bert_crf_is_torchcrf_on_the_same_scores() -> None:
    torch.manual_seed(0)
    model = BERTCRF(tiny_encoder(["bob", "saw"], hidden_size=16), LABELS).eval()
    graph = model(collate(model.builder.build_all(POSTS)))
    theirs = torchcrf.CRF(len(LABELS), batch_first=True)
    theirs.load_state_dict(model.heads["tags"].decoder.state_dict())
    emissions = torch.zeros(2, 5, len(LABELS))
    gold, mask = torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 5, dtype=torch.bool)
    for row, post in enumerate(POSTS):
        length = len(post.words)
        emissions[row, :length] = model.layers[-1].linear(hugging_face(model, post.words))
        gold[row, :length] = torch.tensor([LABELS.index(tag) for tag in post.labels or ()])
        mask[row, :length] = True
    torch.testing.assert_close(model.loss(graph), -theirs(emissions, gold, mask, reduction="mean"))
    assert model.decode_tags(graph) == [[LABELS.tags[best] for best in row] for row in theirs.decode(emissions, mask)]


def test_constrained_tags_are_bio2() -> None:
    torch.manual_seed(0)
    model = BERTCRF(tiny_encoder(["bob", "saw"], hidden_size=16), LABELS, constrain=True).eval()
    with torch.no_grad():
        # I- tags would win everywhere
        model.layers[-1].linear.bias[[2, 4]] += 10
    for tags in model.decode_tags(model(collate(model.builder.build_all(POSTS)))):
        assert tags[0][0] != "I"
        assert all(tag[0] != "I" or before[1:] == tag[1:] for before, tag in pairwise(tags))
