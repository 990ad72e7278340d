"""Text encoders of every family, tiny: words, windows, saving, bf16, a training step, and odd words."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from benchmarks.encoder_families import FAMILIES, write_family
from benchmarks.stress.posts import ODD_WORDS
from mnergraph import DetectedObject, LabelSet, Pair
from mnergraph.features.text.encoder import TextEncoderModel, load_encoder
from mnergraph.graph.collate import collate
from mnergraph.inference.predictor import Predictor
from mnergraph.models import UMGF, Tagger
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.heads.tagging import TAGS as HEAD

every_family = pytest.mark.parametrize("family", FAMILIES)
WORDS = ("he", "wins", "in", "Rome", "with", "naïve", "Zoë", "😀", "#NBA")
TAGS = ("O", "O", "O", "B-LOC", "O", "O", "B-PER", "O", "O")
POSTS = [
    Pair(WORDS, TAGS, "0", objects=(DetectedObject("ball", span=(3, 4)), DetectedObject("a hat"))),
    Pair(("Rome",), ("B-LOC",), "1"),
    Pair(WORDS * 12, TAGS * 12, "long", objects=(DetectedObject("ball"),)),
]


@cache
def encoder(family: str) -> TextEncoderModel:
    torch.manual_seed(0)
    return FAMILIES[family]()


def build(family: str) -> Tagger:
    torch.manual_seed(0)
    labels = LabelSet.from_types(["PER", "LOC"])
    return UMGF(FAMILIES[family](), labels, hidden_size=16, num_heads=2, num_layers=1).eval()


def emissions(model: Tagger, posts: list[Pair]) -> list[torch.Tensor]:
    with torch.no_grad():
        graph = model(collate(model.builder.build_all(posts)))
    scores = graph.emissions[HEAD]
    return list(scores.split(graph.layouts["token"].counts.tolist()))


@every_family
def test_words_have_the_pieces_of_running_text(family: str) -> None:
    pieces = encoder(family).tokenizer
    whole = pieces.tokenizer(" " + " ".join(WORDS))["input_ids"]
    assert [*pieces.start, *(id for word in pieces(WORDS) for id in word), *pieces.end] == whole
    assert pieces.start
    assert pieces.end


@every_family
def test_alone_equals_batched_and_long_posts_are_windowed(family: str) -> None:
    model = build(family)
    assert model.builder.length(POSTS[2]) > model.encoder.max_length
    for together, post in zip(emissions(model, POSTS), POSTS, strict=True):
        [alone] = emissions(model, [post])
        assert len(alone) == len(post.words)
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@every_family
def test_the_longest_input_is_read_at_once(family: str) -> None:
    """Positions are counted as the encoder numbers them: one piece more than ``max_length`` would be out of range."""
    backbone = encoder(family)
    ids = torch.full((1, backbone.max_length), backbone.tokenizer(["Rome"])[0][0])
    assert backbone.model(input_ids=ids).last_hidden_state.shape == (1, backbone.max_length, backbone.hidden_size)


@every_family
def test_saved_and_loaded(family: str, tmp_path: Path) -> None:
    model = build(family)
    model.save_pretrained(tmp_path)
    loaded = Tagger.from_pretrained(tmp_path)
    assert loaded.encoder.tokenizer(WORDS) == model.encoder.tokenizer(WORDS)
    for one, other in zip(emissions(model, POSTS), emissions(loaded, POSTS), strict=True):
        assert torch.equal(one, other)


@every_family
def test_a_training_step_and_bf16(family: str) -> None:
    model = build(family).train()
    rates = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(2):
        batch = collate(model.builder.build_all(POSTS[:2]))
        torch.manual_seed(0)
        loss = model.loss(model(batch))
        loss.backward()
        losses.append(loss.item())
        rates.step()
        without = [name for name, weight in model.encoder.model.named_parameters() if weight.grad is None]
        assert not without
        rates.zero_grad()
    assert losses[1] < losses[0]
    exact = [scores.clone() for scores in emissions(model.eval(), POSTS)]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = emissions(model, POSTS)
    for one, other in zip(exact, rounded, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=0.1, atol=0.1)


@every_family
def test_odd_words(family: str) -> None:
    posts = [Pair.from_words(["Rome", word], id=str(index)) for index, word in enumerate(ODD_WORDS)]
    posts.append(Pair.from_words(ODD_WORDS, id="all"))
    lines = list(Predictor(build(family))(posts))
    assert [line["id"] for line in lines] == [post.id for post in posts]
    assert not [line for line in lines if "error" in line]
    assert all(encoder(family).tokenizer(ODD_WORDS))


def test_narrow_embeddings_without_a_known_projection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_family("ELECTRA", tmp_path)
    narrow = load_encoder(tmp_path)
    del narrow.model.embeddings_project
    with pytest.raises(ValueError, match=r"ElectraModel have 8 features and its states 16, .* not known here"):
        TextEncoder(narrow)


def test_label_pieces_have_the_projected_embeddings() -> None:
    def check(family: str) -> None:
        model = build(family)
        layer = next(part for part in model.modules() if isinstance(part, TextEncoder))
        assert layer.embedding_projection is not None
        graph = model(collate(model.builder.build_all(POSTS[:1])))
        ids = graph.data["label_piece"].input_ids
        narrow = model.encoder.model.get_input_embeddings()(ids)
        expected = model.encoder.model.get_submodule(layer.embedding_projection)(narrow)
        assert narrow.shape[1] * 2 == expected.shape[1]
        torch.testing.assert_close(graph.x["label_piece"], expected)

    for family in ("ELECTRA", "ALBERT"):
        check(family)
