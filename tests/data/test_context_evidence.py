"""Texts about posts: their file, how they are attached, and what is said of posts without."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from mnergraph.cli.inputs import Inputs
from mnergraph.data import Evidence
from mnergraph.data.evidence import with_context
from mnergraph.data.formats.evidence_jsonl import EvidenceError, read_context, write_context
from mnergraph.data.formats.jsonl import read_posts
from mnergraph.data.missing_evidence import MissingEvidenceError, remedy, require_evidence
from mnergraph.data.processor import Processor
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.graph.context import Context, count_trimmed, describe_trimmed
from mnergraph.inference.predictor import Predictor
from mnergraph.labels import LabelSet
from mnergraph.models import BERTCRF, BiLSTMCRF, Tagger
from mnergraph.pair import ContextText, Pair
from mnergraph.training.build import build_model, sources_of, text_encoder

CAPTION, OCR = ContextText("caption", "a man"), ContextText("ocr", "SALE\nnow")
KNOWLEDGE = ContextText("knowledge", "Ann is a singer")


def model(context: Context | None) -> Tagger:
    return BERTCRF(tiny_encoder(hidden_size=16, num_layers=1, heads=2), LabelSet.from_types(["PER"]), context=context)


def test_to_a_file_and_back(tmp_path: Path) -> None:
    texts = {"7": (OCR, KNOWLEDGE), "8": ()}
    write_context(texts, tmp_path / "context.jsonl")
    assert read_context(tmp_path / "context.jsonl") == texts
    assert json.loads((tmp_path / "context.jsonl").read_text().splitlines()[0]) == {
        "id": "7",
        "context": [{"source": "ocr", "text": "SALE\nnow"}, {"source": "knowledge", "text": "Ann is a singer"}],
    }


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "7"}',
        '{"id": "7", "context": "text"}',
        '{"id": "7", "context": ["text"]}',
        '{"id": "7", "context": [{"source": "ocr"}]}',
        '{"id": "7", "context": [{"source": "", "text": "a"}]}',
        '{"id": "7", "context": [{"source": "ocr", "text": 3}]}',
        '{"context": []}',
        "{",
    ],
)
def test_faults_name_file_and_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "context.jsonl"
    path.write_text('{"id": "6", "context": []}\n' + line + "\n")
    with pytest.raises(EvidenceError, match=rf"{path}:2: .*right is .*knowledge"):
        read_context(path)


def test_attached_by_id_in_the_place_of_the_same_source(tmp_path: Path) -> None:
    write_context({"1": (OCR,), "3": (OCR,)}, tmp_path / "context.jsonl")
    evidence = Evidence.from_folder(tmp_path)
    pairs = [
        Pair(("a",), id="1", context=(ContextText("ocr", "old"), KNOWLEDGE)),
        Pair(("b",), id="2", context=(KNOWLEDGE,)),
    ]
    first, second = evidence.attach(pairs)
    assert first.context == (KNOWLEDGE, OCR)
    assert second.context == (KNOWLEDGE,)
    assert (evidence.coverage(pairs).context, evidence.coverage(pairs).unmatched_ids) == (1, 1)
    assert with_context(pairs[0], ()) is pairs[0]
    with pytest.raises(FileNotFoundError, match=r"context='.*none.jsonl' is no file"):
        Evidence(context=tmp_path / "none.jsonl")


def test_an_images_context_joins_what_the_post_has() -> None:
    """A post's own text of a source takes precedence, as its other evidence does."""
    found = ImageEvidence(context=(OCR, ContextText("knowledge", "another")))
    assert found.attach_to(Pair(("a",), context=(CAPTION, KNOWLEDGE))).context == (CAPTION, *found.context)
    completed = Evidence().complete(Pair(("a",), context=(KNOWLEDGE,)), found)
    assert dict(completed.context) == dict([OCR, KNOWLEDGE])


def test_posts_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text('{"text": "Ann sang", "context": [{"source": "ocr", "text": "SALE\\nnow"}]}\n')
    assert read_posts(path)[0].context == (OCR,)
    path.write_text('{"text": "Ann sang", "context": {"ocr": "SALE"}}\n')
    with pytest.raises(ValueError, match=r"posts.jsonl:1: the post: no list .context."):
        read_posts(path)


def test_the_context_of_a_text_and_of_a_file(tmp_path: Path) -> None:
    (pair,) = Inputs(text="Ann sang", context={"knowledge": "Ann is a singer"}).stream().load()
    assert pair.context == (KNOWLEDGE,)
    write_context({"1": (OCR,)}, tmp_path / "c.jsonl")
    (tmp_path / "posts.txt").write_text("IMGID:1\nAnn\n\n")
    (pair,) = Inputs(posts=tmp_path / "posts.txt", context=tmp_path / "c.jsonl").stream().load()
    assert pair.context == (OCR,)
    with pytest.raises(ValueError, match="with text give its texts by source"):
        Inputs(text="Ann sang", context=tmp_path / "c.jsonl").stream().load()
    with pytest.raises(ValueError, match=r"with posts give the path of context.jsonl"):
        Inputs(posts=tmp_path / "posts.txt", context={"ocr": "SALE"}).stream().load()


def test_what_all_posts_lack_is_refused_with_the_remedy() -> None:
    builder = model(Context(sources=("caption", "knowledge"))).builder
    posts = [Pair(("a",), id="1", caption="a man"), Pair(("b",), id="2")]
    with pytest.raises(
        MissingEvidenceError, match=r"context \(knowledge\), which no post of train has: give context.jsonl"
    ) as caught:
        require_evidence(builder, {"train": posts})
    assert "--allow_missing '[context (knowledge)]'" in str(caught.value)
    missing = require_evidence(builder, {"train": posts}, allow_missing=["context (knowledge)"])
    assert missing == {"train": {"context (caption)": ["2"], "context (knowledge)": ["1", "2"]}}
    assert "with texts of this source" in remedy("context (scene)")
    assert "captions.jsonl" in remedy("context")


def test_prediction_names_posts_without_context(tmp_path: Path) -> None:
    """Knowledge is asked for of every post, a caption of those with an image; an empty text says that there is none."""
    predictor = Predictor(model(Context(sources=("caption", "knowledge"))).eval())
    posts = [
        Pair(("a",), id="1", context=(KNOWLEDGE,)),
        Pair(("b",), id="2"),
        Pair(("c",), id="3", context=(ContextText("knowledge", ""),)),
    ]
    with pytest.warns(UserWarning, match=r"1 of 3 posts has no context \(knowledge\), which the model reads: 2"):
        assert len(list(predictor(posts))) == 3
    image = tmp_path / "1.jpg"
    image.write_bytes(b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(predictor([Pair(("a",), id="1", image_path=image, context=(KNOWLEDGE,))]))
    assert ["no context (caption)" in str(warning.message) for warning in caught] == [True]
    with pytest.raises(MissingEvidenceError, match=r"context \(caption\), which no post has: give captions.jsonl"):
        predictor.require_evidence([Pair(("a",), image_path=image, context=(KNOWLEDGE,))])
    assert Processor().available(Pair(("a",), caption="a man")) == {"detected objects"}


def test_sources_follow_from_the_training_posts() -> None:
    posts = [Pair(("a",), context=(KNOWLEDGE,)), Pair(("b",), caption="a man", context=(OCR,))]
    assert sources_of(posts) == ("knowledge", "caption", "ocr")
    labels = LabelSet.from_types(["PER"])
    built = build_model(BERTCRF, tiny_encoder(hidden_size=16), labels, posts, context=Context(budget=20))
    assert built.context == Context(sources=("knowledge", "caption", "ocr"), budget=20)
    assert built.init_arguments["context"] == built.context
    with pytest.raises(ValueError, match=r"no training post has context: give context.jsonl, or captions.jsonl"):
        sources_of([Pair(("a",))])
    with pytest.raises(ValueError, match="this model reads no context"):
        build_model(BiLSTMCRF, text_encoder("random:4", posts), labels, posts, context=Context())


def test_words_left_out_are_counted() -> None:
    tagger = model(Context(budget=8))
    long = Pair(("a",), caption="one two three four five six seven eight nine ten")
    trimmed = count_trimmed(tagger.builder.node_types.values(), [long, Pair(("b",), caption="one"), Pair(("c",))])
    assert trimmed is not None
    kept = tagger.builder(long)["context"].num_nodes
    assert (trimmed.posts, trimmed.words, trimmed.total) == (1, 10 - kept, 11)
    assert f"1 of 3 posts have more than 8 word pieces; {10 - kept} of 11 words" in describe_trimmed(trimmed, 3)
    assert count_trimmed(model(None).builder.node_types.values(), [long]) is None


def test_real_knowledge(shared: Path) -> None:
    """Every post of Twitter-2017 has some, and no sentence changes for it."""
    with (shared / "knowledge/twitter2017.jsonl").open(encoding="utf-8") as file:
        lines = [json.loads(next(file)) for _ in range(40)]
    tagger = model(Context(sources=("knowledge",), budget=64))
    for line in lines:
        pair = Pair(("Ann", "sang"), id=line["id"], context=(ContextText("knowledge", line["knowledge"]),))
        data, bare = tagger.builder(pair), tagger.builder(pair.without_context())
        assert 0 < data["context_piece"].num_nodes <= 64
        assert data["piece"].input_ids.tolist() == bare["piece"].input_ids.tolist()
