"""A second task of another shape: one label per post, trained, scored, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mnergraph
from mnergraph.explain.report.data import report_data
from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.graph import Complete, Relation, Schema
from mnergraph.inference.predictor import Predictor
from mnergraph.labels import LabelSet
from mnergraph.models import Tagger
from mnergraph.nn import CRF, ObjectEncoder, PostLabelHead, TaggingHead, TaggingScores, TextEncoder, TransformerLayer
from mnergraph.pair import DetectedObject, Pair
from mnergraph.training import OptimizerConfig, TrainerConfig, evaluate, fit

MakeLoop = Callable[..., TrainerConfig]
TO_TOKENS = ("object", "guides", "token")


class WithRelevance(Tagger):
    """Tags, and whether the image matters to the text."""

    def __init__(self, encoder: TextEncoderModel, labels: LabelSet) -> None:
        size = encoder.hidden_size
        super().__init__(
            schema=Schema([Relation(*TO_TOKENS, Complete())]),
            layers=[
                TextEncoder(encoder),
                ObjectEncoder(size, label_dim=size),
                TransformerLayer(TO_TOKENS, size, 2, out_key="fused"),
                TaggingScores("tags", 2 * size, len(labels), in_keys=("token", "fused")),
            ],
            heads=[
                TaggingHead(CRF(labels.tags), labels),
                PostLabelHead("image_matters", ("no", "yes"), 2 * size, in_keys=("fused", "object"), weight=5.0),
            ],
            encoder=encoder,
            labels=labels,
        )


def posts(count: int) -> list[Pair]:
    """The image matters where it shows a person; every fifth post has no gold label for that."""
    made = []
    for index in range(count):
        person = index % 2 == 0
        extra = {} if index % 5 == 4 else {"image_matters": "yes" if person else "no"}
        objects = (DetectedObject("person" if person else "tree"),)
        made.append(Pair(("ann", "saw", "rome"), ("B-PER", "O", "B-LOC"), str(index), objects=objects, extra=extra))
    return made


def test_post_label_head_in_addition_to_the_tags(loop: MakeLoop, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = tiny_encoder(["ann", "saw", "rome", "person", "tree"], hidden_size=16, num_layers=1, heads=2)
    model = WithRelevance(encoder, LabelSet.from_types(["LOC", "PER"]))
    fast = OptimizerConfig(encoder_lr=1e-2, lr=1e-2, warmup=0.0)
    fit(model, posts(20), posts(8), tmp_path / "run", optimizer=fast, trainer=loop(epochs=8, logger="csv"))
    scores, tags = evaluate(model, posts(10), progress=False)
    assert tags == [["B-PER", "O", "B-LOC"]] * 10
    assert scores.heads == {"image_matters": {"accuracy": 1.0, "macro_f1": 1.0}}
    assert "image_matters: accuracy 100.00, macro_f1 100.00" in scores.table()
    (log,) = (tmp_path / "run").rglob("metrics.csv")
    assert "dev_image_matters_accuracy" in log.read_text(encoding="utf-8")

    model.save_pretrained(tmp_path / "model")
    graph = WithRelevance.from_pretrained(tmp_path / "model").forward_examples(posts(2))
    assert [found["image_matters"]["label"] for found in model.decode_heads(graph)] == ["yes", "no"]
    first, second = Predictor(model)(posts(2))
    assert (first["image_matters"]["label"], second["image_matters"]["label"]) == ("yes", "no")
    assert [entity["type"] for entity in first["entities"]] == ["PER", "LOC"]
    assert mnergraph.pipeline(model)(posts(1)[0]).heads["image_matters"]["label"] == "yes"
    labelled, *_, unlabelled = report_data(model, posts(5))["posts"]
    (name, predicted, gold), (_, _, none) = *labelled["tasks"], *unlabelled["tasks"]
    assert (name, gold, none) == ("image_matters", "yes", None)
    assert predicted == f"label yes, score {first['image_matters']['score']}"


@pytest.mark.parametrize(("name", "fault"), [("text", "named text, which"), ("tags", "two heads have one")])
def test_head_names_that_are_in_use(name: str, fault: str) -> None:
    labels, encoder = LabelSet.from_types(["PER"]), tiny_encoder(["ann"], hidden_size=16, num_layers=1, heads=2)
    heads = [TaggingHead(CRF(labels.tags), labels), PostLabelHead(name, ("no", "yes"), 16)]
    with pytest.raises(ValueError, match=fault):
        Tagger(schema=Schema([]), layers=[], heads=heads, encoder=encoder, labels=labels)


def test_tags_of_another_head() -> None:
    labels, encoder = LabelSet.from_types(["PER"]), tiny_encoder(["ann"], hidden_size=16, num_layers=1, heads=2)
    heads = [PostLabelHead("tags", ("no", "yes"), 16)]
    model = Tagger(schema=Schema([]), layers=[], heads=heads, encoder=encoder, labels=labels)
    with pytest.raises(TypeError, match="'tags' is a PostLabelHead; a model's entities come from an EntityHead"):
        _ = model.entity_head
    with pytest.raises(TypeError, match="'tags' is a PostLabelHead, not a TaggingHead"):
        _ = model.tagging_head


def test_posts_without_that_label_train_too(loop: MakeLoop, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = tiny_encoder(["ann", "saw", "rome"], hidden_size=16, num_layers=1, heads=2)
    model = WithRelevance(encoder, LabelSet.from_types(["LOC", "PER"]))
    bare = [replace(pair, extra={}) for pair in posts(4)]
    fit(model, bare, bare, tmp_path / "run", trainer=loop(epochs=1))
    assert evaluate(model, bare, progress=False)[0].heads == {}, "nothing to score, so nothing is claimed"
