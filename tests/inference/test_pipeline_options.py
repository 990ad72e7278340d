"""`mnergraph.pipeline` with the arguments of transformers': aggregation, batch sizes, streams in and out."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import LABELS
from PIL import Image
from torch.utils.data import Dataset
from transformers.pipelines.token_classification import AggregationStrategy

import mnergraph.inference.predictor as predictor_module
from mnergraph import LabelSet, Pair, pipeline, tiny_encoder
from mnergraph.data import PostFolder
from mnergraph.data.formats.jsonl import UnreadablePost
from mnergraph.features.vision.image_io import upright_size
from mnergraph.inference import NERResult
from mnergraph.labels import tags_to_spans
from mnergraph.models import BERTCRF, MRCMNER, UMGF
from mnergraph.models.umgf.model import RELEASED
from mnergraph.nn.heads.grounding import Grounding

WORDS = ["paris", "ann", "lee", "sings", "in", "rain"]
TEXTS = [f"{WORDS[number % 6]} {WORDS[number % 5]} sings" + " in rain" * (number % 7) for number in range(50)]


@pytest.fixture(scope="module")
def model() -> BERTCRF:
    torch.manual_seed(0)
    encoder = tiny_encoder(WORDS, hidden_size=16, num_layers=1, heads=2, max_length=40)
    return BERTCRF(encoder, LabelSet.from_types(["PER", "LOC"])).eval()


def plain(results: Any) -> list[list[dict[str, Any]]]:
    return [list(result) for result in results]


# --- words and entities ------------------------------------------------------------------------------------


def test_words_with_tags_and_their_probabilities(model: BERTCRF) -> None:
    text = "  Ann sings\tin rain and many more do so in Paris"
    found = pipeline(model)(text, aggregation_strategy="none", ignore_labels=[])
    graph = model.forward_examples([found.pair])
    (tags,) = model.decode_tags(graph)
    scores, mask = graph.layouts["token"].to_dense(graph.emissions["tags"]), graph.layouts["token"].mask
    marginals = model.tagging_head.decoder.marginals(scores, mask)[0]
    first_pieces = marginals[graph.data["token"].starts_word]
    assert [item["entity"] for item in found] == tags
    for index, (item, tag) in enumerate(zip(found, tags, strict=True)):
        assert set(item) == {"entity", "score", "index", "word", "start", "end"}
        assert item["score"] == pytest.approx(float(first_pieces[index, model.labels.index(tag)]), abs=1e-5)
        assert (item["index"], item["word"]) == (index, text[item["start"] : item["end"]])
    assert [item["word"] for item in found] == text.split()
    assert list(found.entities) == list(pipeline(model)(text))
    words = pipeline(model, aggregation_strategy="none")(text)
    assert list(words) == [item for item in found if item["entity"] != "O"]
    assert list(pipeline(model, aggregation_strategy="none")(text, aggregation_strategy="simple")) == found.entities
    assert 0 < len(words) < len(found)


def test_special_tags_count_as_outside(umgf: Callable[..., UMGF]) -> None:
    released = umgf("released")
    assert "X" in released.labels.tags
    bias = released.layers[-1].linear.bias
    with torch.no_grad():
        bias[released.labels.index("X")] = 9.0
    (item,) = pipeline(released)(Pair(("paris",)), aggregation_strategy="none", ignore_labels=())
    assert item["entity"] == "O"
    assert item["score"] > 0.99


def test_words_that_are_cut_off_have_no_probability() -> None:
    variant = replace(RELEASED, max_pieces=20, released_init=False)
    sizes = {"hidden_size": 16, "num_heads": 4, "num_layers": 1, "label_features": True}
    cut = UMGF(tiny_encoder(["ann"], hidden_size=16, num_layers=1, heads=2), LABELS, variant=variant, **sizes)
    ner = pipeline(cut, aggregation_strategy="none", ignore_labels=[])
    with pytest.warns(UserWarning, match="is cut at 20 pieces: its last 12 of 30 words are tagged as outside"):
        found = ner(["ann"] * 30, is_split_into_words=True)
    assert len(found) == 30
    assert [item["entity"] for item in found if item["score"] is None] == ["O"] * 12
    assert all(item["score"] > 0 for item in found[:18])


def test_aggregation_as_transformers_has_it(model: BERTCRF) -> None:
    ner = pipeline(model)
    simple = ner(TEXTS, aggregation_strategy="simple")
    assert plain(ner(TEXTS)) == plain(simple) == plain(ner(TEXTS, aggregation_strategy="FIRST"))
    assert plain(ner(TEXTS, aggregation_strategy=AggregationStrategy.SIMPLE)) == plain(simple)
    words = ner(TEXTS, aggregation_strategy=AggregationStrategy.NONE, ignore_labels=[])
    for tagged, grouped in zip(words, simple, strict=True):
        spans = tags_to_spans([item["entity"] for item in tagged])
        assert spans == [(e["word_start"], e["word_end"], e["label"]) for e in grouped]
    without = ner(TEXTS, ignore_labels=["PER"])
    assert plain(without) == [[entity for entity in result if entity["label"] != "PER"] for result in simple]
    assert plain(without) != plain(simple)


def test_arguments_without_meaning_say_why(model: BERTCRF) -> None:
    for name in ("average", "max"):
        with pytest.raises(ValueError, match=f"'{name}' combines the scores of a word's pieces; here a word has one"):
            pipeline(model, aggregation_strategy=name)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'group' is not among none, simple, first"):
        pipeline(model)("a", aggregation_strategy="group")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ignore_labels is a list of labels, not the text 'O'"):
        pipeline(model, ignore_labels="O")
    with pytest.raises(ValueError, match="batch_size is 1 or more posts, not 0"):
        pipeline(model)(["a"], batch_size=0)
    spans = MRCMNER(tiny_encoder(), LabelSet.from_types(["PER"]), num_heads=2)
    with pytest.raises(ValueError, match="the entities of MRCMNER are spans, and its words have no tags"):
        pipeline(spans, aggregation_strategy="none")
    regions = BERTCRF(tiny_encoder(), LabelSet.from_types(["PER"]), grounding=Grounding(types="regions"))
    with pytest.raises(ValueError, match="this BERTCRF gives types to entities, not to words"):
        pipeline(regions)("a", aggregation_strategy="none")


def test_device(model: BERTCRF) -> None:
    moved = BERTCRF(tiny_encoder(), LabelSet.from_types(["PER"]))
    pipeline(moved, device="meta")
    assert {weight.device.type for weight in moved.parameters()} == {"meta"}
    assert pipeline(model, device=-1).model is model
    assert {weight.device.type for weight in model.parameters()} == {"cpu"}


# --- streams -----------------------------------------------------------------------------------------------


def test_a_generator_is_read_and_answered_batch_size_posts_at_a_time(model: BERTCRF) -> None:
    read: list[str] = []

    def posts() -> Iterator[str]:
        for text in TEXTS:
            read.append(text)
            yield text

    ner = pipeline(model, batch_size=8)
    results = ner(posts())
    assert isinstance(results, Iterator)
    assert read == []
    found = [next(results)]
    assert len(read) == 8
    found += [next(results) for _ in range(8)]
    assert len(read) == 16
    found += results
    assert read == TEXTS
    assert plain(found) == plain(ner(TEXTS)) == plain(pipeline(model)(TEXTS))
    assert [result.text for result in found] == TEXTS


@pytest.mark.parametrize(
    ("constructed", "called", "largest"), [(3, None, 3), (3, 5, 5), (None, 1, 1), (None, None, 50)]
)
def test_batches_have_at_most_so_many_posts(
    model: BERTCRF, constructed: int | None, called: int | None, largest: int
) -> None:
    sizes = []
    hook = model.register_forward_pre_hook(lambda module, given: sizes.append(given[0].num_graphs))
    ner = pipeline(model, batch_size=constructed, batch_pieces=10_000)
    plain(ner(TEXTS, batch_size=called))
    hook.remove()
    assert sum(sizes) == 50
    assert max(sizes) == largest


def test_without_a_batch_size_windows_are_read(model: BERTCRF, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_module, "WINDOW", 20)
    read: list[str] = []
    results = pipeline(model)(read.append(text) or text for text in TEXTS)
    next(results)
    assert len(read) == 20


def test_posts_that_cannot_be_read_or_predicted_have_an_error(model: BERTCRF, tmp_path: Path) -> None:
    faulty: list[Any] = [
        TEXTS[0],
        {"text": " ", "id": "blank"},
        {"text": "ann sings", "image": tmp_path / "gone.png", "id": "7"},
        {"tokens": None},
        Pair(("a", "\ud83d")),
        UnreadablePost("posts.jsonl:6: not JSON", "6"),
        {"id": 9, "caption": "a man"},
        TEXTS[1],
    ]
    ner = pipeline(model)
    results = ner(iter(faulty), batch_size=3)
    with pytest.warns(UserWarning, match=r"6 of 8 posts have an error.*; the first: post 'blank': the text ' ' holds"):
        found = list(results)
    assert plain([found[0], found[-1]]) == plain(ner([TEXTS[0], TEXTS[1]]))
    errors = [result.error for result in found[1:-1]]
    assert errors[0] == "post 'blank': the text ' ' holds no word"
    assert errors[1] == f"there is no image {tmp_path / 'gone.png'}"
    assert errors[3].startswith("half of a surrogate pair")
    assert errors[4] == "posts.jsonl:6: not JSON"
    assert errors[5] == "a post has text, words or tokens; this one has 'caption', 'id'"
    assert found[6].id == "9"
    assert [(result.id, result.text) for result in found[1:4]] == [("blank", " "), ("7", "ann sings"), ("", "")]
    assert found[1].pair is None
    assert found[2].pair.words == ("ann", "sings")
    assert "holds no word" in found[1]._repr_html_()
    with pytest.raises(ValueError, match="not JSON"):
        found[5].explain()


def test_wrong_calls_end_a_stream(model: BERTCRF) -> None:
    ner = pipeline(model)
    with pytest.raises(ValueError, match="are these words"):
        list(ner(iter([["ann", "sings"]])))
    assert len(list(ner(iter([["ann", "sings"]]), is_split_into_words=True))) == 1
    with pytest.raises(TypeError, match="'7' is no post: right is a text, a list of words, a dict or a Pair"):
        list(ner(iter([7])))
    with pytest.raises(TypeError, match="is neither a post nor an iterable of posts"):
        ner(7)
    with pytest.raises(ValueError, match="a post has text, words or tokens; this one has 'sentence'"):
        ner({"sentence": "a"})
    with pytest.raises(TypeError, match="tokens is '3'; right is a text, or a list of words"):
        ner([{"tokens": 3}])
    with pytest.raises(ValueError, match="a dict has its own image"):
        ner({"text": "a"}, image=b"")
    with pytest.raises(ValueError, match="of a stream of posts, image is an iterable of as many images"):
        ner(iter(TEXTS), image="1.png")
    with pytest.raises(ValueError, match="there are 2 images and more posts"):
        list(ner(iter(TEXTS), image=iter([None, None])))
    with pytest.raises(ValueError, match="there are 50 posts and more images"):
        list(ner(iter(TEXTS), image=[None] * 51))


def test_a_generator_of_the_user_may_fail(model: BERTCRF) -> None:
    def posts() -> Iterator[str]:
        yield from TEXTS[:4]
        raise KeyError("the queue is gone")

    results = pipeline(model, batch_size=2)(posts())
    assert len([next(results) for _ in range(4)]) == 4
    with pytest.raises(KeyError, match="the queue is gone"):
        next(results)


class Rows(Dataset[dict[str, Any]]):
    """A data set of PyTorch without an end that indexing would show."""

    def __len__(self) -> int:
        return len(TEXTS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"text": TEXTS[index % len(TEXTS)], "id": index}


def test_data_sets(model: BERTCRF, tmp_path: Path) -> None:
    ner = pipeline(model)
    expected = plain(ner(TEXTS))
    rows = list(ner(Rows(), batch_size=7))
    assert plain(rows) == expected
    assert [result.id for result in rows] == [str(number) for number in range(50)]
    lines = [f"IMGID:{n}\n" + "".join(f"{word}\tO\n" for word in text.split()) for n, text in enumerate(TEXTS)]
    (tmp_path / "test.txt").write_text("\n".join(lines))
    assert plain(ner(PostFolder(tmp_path, "test"))) == expected
    datasets = pytest.importorskip("datasets", reason="the extra datasets is not installed")
    table = datasets.Dataset.from_dict({"tokens": [text.split() for text in TEXTS], "id": list(range(50))})
    assert plain(ner(table)) == plain(ner(table.to_iterable_dataset())) == expected


@pytest.mark.filterwarnings("ignore:.* posts have no ")
def test_images_of_a_stream(umgf: Callable[[], UMGF], tmp_path: Path) -> None:
    ner, alive = pipeline(umgf(), batch_size=4), []
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    data = (tmp_path / "1.png").read_bytes()
    forms: list[Any] = [
        Image.new("RGB", (4, 4)),
        data,
        {"bytes": data, "path": None},
        {"path": str(tmp_path / "1.png")},
    ]
    for number, result in enumerate(ner({"text": "paris", "image": forms[n % 4]} for n in range(40))):
        assert result.pair.image_path.is_file()
        assert upright_size(result.pair.image_path) == (4, 4)
        alive.append(weakref.ref(result))
        if number == 20:
            kept = result
    assert ner._folder is not None
    del result
    gc.collect()
    assert [reference() for reference in alive if reference() is not None] == [kept]
    assert list(ner._folder.iterdir()) == [kept.pair.image_path]
    assert kept.explain().pair.image_path == kept.pair.image_path
    images = ner(["paris", "rain"] * 2, image=[data, None] * 2)
    assert [result.pair.image_path is None for result in images] == [False, True] * 2


@pytest.mark.filterwarnings("ignore:.* posts have no ")
def test_files_of_images_do_not_gather(umgf: Callable[[], UMGF]) -> None:
    ner = pipeline(umgf(), batch_size=4)
    files = []
    for result in ner("paris rain" for _ in range(40)):
        assert result.error is None
    for result in ner({"text": "paris", "image": Image.new("RGB", (4, 4))} for _ in range(40)):
        assert isinstance(result, NERResult)
        files.append(len(list(ner._folder.iterdir())))  # type: ignore[union-attr]
    assert max(files) <= 5
