"""Text encoders of every family, tiny: words, windows, saving, bf16, a training step, and odd words."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import MobileBertConfig, MobileBertModel

from benchmarks.encoder_families import FAMILIES
from benchmarks.stress.posts import ODD_WORDS
from mnergraph import DetectedObject, LabelSet, Pair
from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.tweet_tokenizer import split_words
from mnergraph.graph.collate import collate
from mnergraph.inference import pipeline
from mnergraph.inference.predictor import Predictor
from mnergraph.models import BERTCRF, UMGF, Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.models.batches import run_in_batches
from mnergraph.nn.heads.tagging import TAGS as HEAD
from mnergraph.nn.heads.tagging import TaggingScores

every_family = pytest.mark.parametrize("family", FAMILIES)
WORDS = ("he", "wins", "in", "Rome", "with", "naïve", "Zoë", "😀", "#NBA")
TAGS = ("O", "O", "O", "B-LOC", "O", "O", "B-PER", "O", "O")
#: Of words made at random: letters of several scripts, digits, punctuation, emoji.
CHARACTERS = "abehinorstwRABN019.,:;!?'\"-_#@/&$%()[]<>ïëéßвыअकिहरোএ北京하アสวمر😀👍\U0001f3fd\u0301\u200d"
POSTS = [
    Pair(WORDS, TAGS, "0", objects=(DetectedObject("ball", span=(3, 4)), DetectedObject("a hat"))),
    Pair(("Rome",), ("B-LOC",), "1"),
    Pair(WORDS * 12, TAGS * 12, "long", objects=(DetectedObject("ball"),)),
]


@cache
def encoder(family: str) -> TextEncoderModel:
    torch.manual_seed(0)
    return FAMILIES[family]()


def build(family: str, model: type[Tagger] = UMGF) -> Tagger:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_heads": 2, "num_layers": 1} if model is UMGF else {}
    return model(FAMILIES[family](), LabelSet.from_types(["PER", "LOC"]), **sizes).eval()


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
def test_any_word_has_the_pieces_of_running_text(family: str) -> None:
    pieces, rng = encoder(family).tokenizer, random.Random(family)
    # within running text words of white space vanish, and RoBERTa writes the space before "</s>" as a piece
    odd = [word for word in ODD_WORDS if word.split() == [word] and word not in pieces.tokenizer.all_special_tokens]
    for _ in range(60):
        words = [rng.choice((rng.choice(odd), "".join(rng.sample(CHARACTERS, 3)))) for _ in range(4)]
        whole = pieces.tokenizer(" " + " ".join(words), add_special_tokens=False, verbose=False)["input_ids"]
        assert [piece for word in pieces._split(words) for piece in word] == whole, ascii(words)


@every_family
def test_every_word_of_raw_text_has_a_tag_and_its_offsets(family: str) -> None:
    model = build(family)
    scores = next(part for part in model.modules() if isinstance(part, TaggingScores))
    with torch.no_grad():
        scores.linear.bias[model.labels.tags.index("B-LOC")] += 100.0
    texts = ["  he wins in Rome, with Zoë 😀\u200b!!  #NBA", "e\u0301 👩‍👩‍👧 \u0301वह\tRome"]
    for text, entities in zip(texts, pipeline(model)(texts), strict=True):
        places = [(word.text, word.start, word.end) for word in split_words(text)]
        assert [(entity["text"], entity["start"], entity["end"]) for entity in entities] == places


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
@pytest.mark.parametrize("kind", [BERTCRF, UMGF])
def test_saved_and_loaded(family: str, kind: type[Tagger], tmp_path: Path) -> None:
    model = build(family, kind)
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
    for one, other in zip(exact, emissions(model.to(torch.bfloat16), POSTS), strict=True):
        assert other.dtype == torch.bfloat16
        torch.testing.assert_close(one, other.float(), rtol=0.1, atol=0.1)


@every_family
@pytest.mark.parametrize("kind", [BERTCRF, UMGF])
def test_prediction_in_bf16(family: str, kind: type[Tagger]) -> None:
    model = build(family, kind)
    full, half = (
        run_in_batches(
            model, POSTS, lambda graph, _: [graph.emissions[HEAD]], config=BatchConfig(1, precision=precision)
        )
        for precision in ("fp32", "bf16")
    )
    for one, other in zip(full, half, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=0.1, atol=0.1)
        assert not torch.equal(one, other.float())


@every_family
def test_odd_words(family: str) -> None:
    posts = [Pair.from_words(["Rome", word], id=str(index)) for index, word in enumerate(ODD_WORDS)]
    posts.append(Pair.from_words(ODD_WORDS, id="all"))
    lines = list(Predictor(build(family))(posts))
    assert [line["id"] for line in lines] == [post.id for post in posts]
    assert not [line for line in lines if "error" in line]
    assert all(encoder(family).tokenizer(ODD_WORDS))


def test_narrow_embeddings_without_a_known_projection() -> None:
    """They are refused when a model is built that reads labels of objects, and only then."""
    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = MobileBertConfig(vocab_size=400, embedding_size=8, intra_bottleneck_size=8, **settings)
    narrow = TextEncoderModel(MobileBertModel(config, add_pooling_layer=False), encoder("BERT").tokenizer, "narrow")
    labels = LabelSet.from_types(["PER"])
    assert len(BERTCRF(narrow, labels).predict(POSTS)) == len(POSTS)
    message = (
        r"^narrow: the input embeddings of MobileBertModel have 8 features and its states 16, .* not known here .*"
    )
    with pytest.raises(
        ValueError, match=message + "; take another encoder, or a model that reads no labels of objects"
    ):
        UMGF(narrow, labels, hidden_size=16, num_heads=2)


@pytest.mark.parametrize(
    ("family", "layer"),
    [
        ("ELECTRA", lambda model: model.embeddings_project),
        ("ALBERT", lambda model: model.encoder.embedding_hidden_mapping_in),
        ("DeBERTa-v2", lambda model: model.embeddings.embed_proj),
    ],
)
def test_label_pieces_have_the_projected_embeddings(family: str, layer: Callable[[nn.Module], nn.Module]) -> None:
    model = build(family)
    graph = model(collate(model.builder.build_all(POSTS[:1])))
    inner = model.encoder.model
    narrow = inner.get_input_embeddings()(graph.data["label_piece"].input_ids)
    assert narrow.shape[1] == model.encoder.hidden_size // 2
    torch.testing.assert_close(graph.x["label_piece"], layer(inner)(narrow))
