"""From posts to entities with their offsets in the text."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import make_builder
from PIL import Image
from runs import Run
from torch import nn
from torch_geometric.data import Batch

from mnergraph import BatchConfig
from mnergraph.cli.main import main
from mnergraph.cli.train import train
from mnergraph.data import Evidence, PostFolder, write_conll
from mnergraph.data.formats.evidence_jsonl import write_captions
from mnergraph.data.formats.jsonl import read_posts
from mnergraph.data.processor import ProcessorConfig
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.features.text.tweet_tokenizer import split_words
from mnergraph.graph import Complete, Relation, Schema
from mnergraph.graph.node_types import Objects
from mnergraph.inference.predictor import Predictor
from mnergraph.labels import Entity, LabelSet
from mnergraph.models import BERTCRF, UMGF, Tagger
from mnergraph.pair import DetectedObject, Pair
from mnergraph.training import TrainerConfig

TEXT = "RT @BBC:  Kevin\tDurant 🇫🇷👩‍👩‍👧 wins… at the  O2 Arena \n http://t.co/x1 naïve Zoë 😀!"


class EveryPair(nn.Module):
    """A substitute for a model: every two neighboring words are an entity; records its batches."""

    builder = make_builder(Schema([Relation("object", "guides", "token", Complete())]))

    def __init__(self, config: ProcessorConfig | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.processor_config = config
        self.predicted: list[list[Pair]] = []

    batches = Tagger.batches

    def forward(self, batch: Batch) -> list[Pair]:
        self.predicted.append(list(batch.pair))
        return self.predicted[-1]

    def decode(self, pairs: Sequence[Pair]) -> list[tuple[list[Entity], dict[str, Any]]]:
        return [
            ([Entity(start, min(start + 2, len(pair.words)), "PER", 0.5) for start in range(0, len(pair.words), 2)], {})
            for pair in pairs
        ]


@pytest.fixture(scope="module")
def pipeline(trained: Run) -> Predictor:
    return Predictor(Tagger.from_pretrained(trained.model), batching=BatchConfig(batch_pieces=64))


def drawn(trained: Run) -> Path:
    return next((trained.root / "raw" / "images").iterdir())


# --- offsets in the text ----------------------------------------------------------------------------------


def test_offsets_are_exact_in_plain_text() -> None:
    (line,) = Predictor(EveryPair())([Pair.from_text(TEXT, id="7")])  # type: ignore[arg-type]
    words = [word for found in line["entities"] for word in found["words"]]
    assert words == [word.text for word in split_words(TEXT)]
    assert {"Kevin", "Durant", "🇫🇷", "http://t.co/x1", "Zoë", "😀"} <= set(words)
    assert (line["id"], line["text"]) == ("7", TEXT)
    for found in line["entities"]:
        assert TEXT[found["start"] : found["end"]].split() == " ".join(found["words"]).split() or (
            TEXT[found["start"] : found["end"]].replace(" ", "") == "".join(found["words"])
        )
        assert TEXT[found["start"] :].startswith(found["words"][0])
        assert TEXT[: found["end"]].endswith(found["words"][-1])
        assert len(found["words"]) == found["word_end"] - found["word_start"]


def test_words_are_joined_by_single_spaces() -> None:
    (line,) = Predictor(EveryPair())([Pair(("Kevin", "Durant", "'", "s"))])  # type: ignore[arg-type]
    assert line["text"] == "Kevin Durant ' s"
    assert [(found["start"], found["end"]) for found in line["entities"]] == [(0, 12), (13, 16)]


def test_posts_come_in_order_and_in_batches() -> None:
    model = EveryPair()
    lines = list(
        Predictor(model, batching=BatchConfig(batch_pieces=48))(Pair.from_text("a", id=str(n)) for n in range(7))
    )  # type: ignore[arg-type]
    assert [line["id"] for line in lines] == list("0123456")
    assert [len(batch) for batch in model.predicted] == [3, 3, 1]
    assert list(Predictor(model)([])) == []  # type: ignore[arg-type]


# --- evidence as in training -------------------------------------------------------------------------------


def test_caption_phrases_as_in_training() -> None:
    post = Pair.from_text("hi", caption="a man and a dog", objects=(DetectedObject("hat", box=(0, 0, 1, 1)),))
    with_phrases, without = (
        EveryPair(ProcessorConfig(caption_phrases=True)),
        EveryPair(ProcessorConfig(caption_phrases=False)),
    )
    for model in (with_phrases, without):
        list(Predictor(model)([post]))  # type: ignore[arg-type]
    assert [obj.label for obj in with_phrases.predicted[0][0].objects] == ["hat", "man", "dog"]
    assert [obj.label for obj in without.predicted[0][0].objects] == ["hat"]
    with_objects = Pair.from_text("hi", caption="a man", objects=(DetectedObject("a cat"),))
    list(Predictor(with_phrases)([with_objects]))  # type: ignore[arg-type]
    assert [obj.label for obj in with_phrases.predicted[1][0].objects] == ["a cat"], "phrases are there already"


def test_as_many_objects_as_in_training() -> None:
    evidence = Evidence(top_objects=1, caption_phrases=False)
    model = EveryPair(ProcessorConfig.of(evidence))
    detections = (
        DetectedObject("low", (0, 0, 1, 1), 0.2),
        DetectedObject("high", (0, 0, 1, 1), 0.9),
        DetectedObject("given"),
    )
    list(Predictor(model)([Pair.from_text("hi", objects=detections)]))  # type: ignore[arg-type]
    assert [obj.label for obj in model.predicted[0][0].objects] == ["high", "given"]


def test_an_image_without_boxes_is_one_object(trained: Run, pipeline: Predictor) -> None:
    assert pipeline.processor.regions is not None
    (pair,) = pipeline.processor.regions.attach([Pair.from_text("hi", image_path=drawn(trained))], progress=False)
    assert pair.objects[0].region is not None
    with_image, without = pipeline([Pair.from_text("Jordan", image_path=drawn(trained)), Pair.from_text("Jordan")])
    for line in (with_image, without):
        assert all(0 <= found["score"] <= 1 for found in line["entities"])


def test_unreadable_image_is_ignored(tmp_path: Path, pipeline: Predictor) -> None:
    (tmp_path / "bad.png").write_text("no image")
    posts = [Pair.from_text(TEXT), Pair.from_text(TEXT, image_path=tmp_path / "bad.png")]
    with (
        pytest.warns(UserWarning, match="1 images can't be read"),
        pytest.warns(UserWarning, match="1 of 2 posts has no detected objects, no region features.*: bad.png"),
    ):
        alone, bad = pipeline(posts)
    assert alone == bad


def test_a_saved_model_gives_the_same_lines(tmp_path: Path, trained: Run, pipeline: Predictor) -> None:
    posts = [Pair.from_text(f"{name} met Jordan in Paris", image_path=drawn(trained)) for name in ("Ann", "Bob")] * 3
    pipeline.model.save_pretrained(tmp_path)
    again = Predictor(Tagger.from_pretrained(tmp_path), batching=BatchConfig(batch_pieces=64))
    assert again.processor.regions == pipeline.processor.regions
    assert list(again(posts)) == list(pipeline(posts))


# --- files of posts --------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    Image.new("RGB", (40, 30)).save(tmp_path / "1.png")

    def writing(name: str, content: str | bytes) -> Path:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return writing


def test_posts_of_json_lines(write: Callable[..., Path]) -> None:
    lines = [
        {"text": "Kevin  wins", "id": "7", "image": "1.png", "caption": "a man"},
        {"words": ["Kevin", "wins"], "id": 8},
        {
            "text": "Hi",
            "width": 40,
            "height": 30,
            "objects": [
                {"box": [-1, 2, 30, 20]},
                {"label": "hat", "words": [0, 1]},
                {"label": "a", "box": None},
            ],
        },
    ]
    path = write("posts.jsonl", "\ufeff\n" + "\r\n\n".join(json.dumps(line) for line in lines))
    first, second, third = read_posts(path)
    assert first.text == "Kevin  wins"
    assert first == Pair.from_text("Kevin  wins", id="7", image_path=path.parent / "1.png", caption="a man")
    assert (second.text, second) == ("Kevin wins", Pair(("Kevin", "wins"), id="8"))
    assert third.size == (40, 30)
    assert third.objects == (
        DetectedObject("", (0, 2, 30, 20)),
        DetectedObject("hat", span=(0, 1)),
        DetectedObject("a"),
    )
    assert read_posts(write("none.jsonl", "")) == []


@pytest.mark.parametrize("blank", ["\xa0", " "])
def test_a_blank_word_of_json_lines_is_kept_as_that_of_the_conll_format_is(
    write: Callable[..., Path], pipeline: Predictor, blank: str
) -> None:
    path = write("posts.jsonl", json.dumps({"words": ["Kevin", blank, "wins"]}))
    (post,) = read_posts(path)
    assert post.words == ("Kevin", blank, "wins")
    (line,) = pipeline([post])
    assert "error" not in line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Expecting property name"),
        ('"Paris"', "a post is an object with either text or words"),
        ("{}", "a post is an object with either text or words"),
        ('{"text": "a", "words": ["a"]}', "a post is an object with either text or words"),
        (
            '{"text": "a", "picture": "1.png"}',
            "'picture' is not among caption, context, extra, height, id, image,",
        ),
        ('{"text": " \\t"}', "the text ' \\t' holds no word"),
        ('{"text": 3}', "text is 3, which is no text"),
        ('{"text": null}', "text is None, which is no text"),
        ('{"text": "a", "caption": 3}', "caption is 3, which is no text"),
        ('{"text": "a", "image": "2.png"}', "there is no image "),
        ('{"text": "a", "image": 2}', "image is 2, which is no text"),
        ('{"words": "Paris"}', "words is 'Paris', which is no list of words"),
        ('{"words": ["a", 3]}', "words is ['a', 3], which is no list of words"),
        ('{"words": ["a", ""]}', "words is ['a', ''], which is no list of words"),
        ('{"words": []}', "has no words"),
        ('{"text": "a", "width": 3}', "width and height are (3, None); right are two whole numbers"),
        ('{"text": "a", "width": 3.5, "height": 2}', "width and height are (3.5, 2); right are two"),
        ('{"text": "a", "objects": {}}', "objects is no list"),
        ('{"text": "a", "objects": ["hat"]}', "object 1: 'hat' has neither a label nor a box"),
        (
            '{"text": "a", "objects": [{"box": [0, 0, 1, 1]}]}',
            "object 1 has a box, so the post needs width",
        ),
        ('{"text": "a", "objects": [{"label": "a", "words": [0, 9]}]}', "span 0:9 leaves its 1 words"),
        (b'{"text": "\xff"}', "'utf-8' codec can't decode"),
    ],
)
def test_invalid_lines(write: Callable[..., Path], line: str | bytes, message: str) -> None:
    content = line if isinstance(line, bytes) else line.encode()
    path = write("posts.jsonl", b'{"text": "fine"}\n' + content + b"\n")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}:2: .*{re.escape(message)}") as caught:
        read_posts(path)
    assert '; right is {"text": "Thousands march in Paris"' in str(caught.value)


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ({"box": [0, 0, 1]}, "box [0, 0, 1] is not four finite numbers; right is [x1, y1, x2, y2] in pixels"),
        ({"box": "here"}, "box 'here' is not four finite numbers; right is"),
        ({"box": [9, 0, 1, 1]}, "box [9, 0, 1, 1] is empty or has its corners swapped; right is"),
        ({"box": [50, 0, 60, 1]}, "box [50, 0, 60, 1] lies outside the image; right is"),
        ({"box": [0, 0, 1, 1], "score": 7}, "score 7; right is a number from 0 to 1"),
        ({"label": "a", "words": "all"}, "words 'all'; right is [start, end]"),
    ],
)
def test_invalid_objects(write: Callable[..., Path], obj: dict[str, Any], message: str) -> None:
    path = write("posts.jsonl", json.dumps({"text": "a", "width": 40, "height": 30, "objects": [obj]}))
    with pytest.raises(ValueError, match=rf"^{re.escape(f'{path}:1: object 1: {message}')}"):
        read_posts(path)


@pytest.mark.parametrize("tagged", [True, False])
def test_posts_of_the_conll_format(write: Callable[..., Path], tagged: bool) -> None:
    tag = "\tO" if tagged else ""
    path = write("posts.txt", f"\ufeffIMGID:1\r\nno\u00a0break{tag}\r\nwins{tag}\r\n\r\nIMGID:2\nhi{tag}\n")
    (path.parent / "captions.jsonl").write_text('{"id": "2", "caption": "a dog"}\n')
    evidence = Evidence(captions=path.parent / "captions.jsonl", caption_phrases=False)
    first, second = read_posts(path, images=path.parent, evidence=evidence)
    assert first.words == ("no\u00a0break", "wins")
    assert first.labels == (("O", "O") if tagged else None)
    assert first.image_path == path.parent / "1.png"
    assert (second.image_path, second.caption, second.objects) == (None, "a dog", ())


def test_faults_of_the_conll_format(write: Callable[..., Path]) -> None:
    path = write("posts.txt", "IMGID:1\nKevin\tB-PER\nwins\n")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}:3: 'wins' has 1 columns, not 2;"):
        read_posts(path)
    with pytest.raises(ValueError, match=r":2: byte 1 of the line \(0xff\) is not UTF-8"):
        read_posts(write("bytes.txt", b"IMGID:1\n\xff\n"))
    with pytest.raises(FileNotFoundError, match="is no folder; give the one that holds"):
        read_posts(path, images=Path("nowhere"))


@dataclass(frozen=True)
class LastWords:
    """The last words are a phrase."""

    count: int = 1

    def __call__(self, words: Sequence[str]) -> list[tuple[int, int]]:
        return [(max(0, len(words) - self.count), len(words))]


def test_prediction_uses_the_chunker_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = [Pair(("Ann", "waves"), ("B-PER", "O"), str(index)) for index in range(4)]
    for split in ("train", "valid", "test"):
        write_conll(posts, tmp_path / f"{split}.txt")
    write_captions({pair.id: "a man with a red hat" for pair in posts}, tmp_path / "captions.jsonl")
    evidence = Evidence(captions=tmp_path / "captions.jsonl", chunker=LastWords(2))
    read: list[Pair] = []
    tensors = Objects.store

    def recorded(self: Objects, pair: Pair) -> dict[str, Any]:
        read.append(pair)
        return tensors(self, pair)

    monkeypatch.setattr(Objects, "store", recorded)
    train(
        partial(PostFolder, evidence=evidence),
        tmp_path,
        partial(UMGF, hidden_size=16, num_heads=2, num_layers=1, label_features=True),
        tmp_path / "out",
        trainer=TrainerConfig(epochs=1, batch_size=2, accelerator="cpu", progress=False),
        allow_missing=("grounded objects", "region features"),
    )
    assert {item.label for pair in read for item in pair.objects} == {"red hat"}
    read.clear()
    model = Tagger.from_pretrained(tmp_path / "out" / "model")
    list(Predictor(model)([Pair(("Bob", "sings"), caption="a woman on a small stage")]))
    assert [[item.label for item in pair.objects] for pair in read] == [["small stage"]]


# --- posts that can't be predicted -------------------------------------------------------------------------

HALF = "so happy \ud83d today"


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_bad_post_has_an_error_and_the_others_their_entities(batch_size: int) -> None:
    encoder = tiny_encoder(["paris", "london"], hidden_size=16, num_layers=1, heads=2)
    model = BERTCRF(encoder, LabelSet.from_types(["LOC"]))
    good = [Pair.from_text("Paris is great", id="1"), Pair.from_text("London", id="3")]
    bad = [Pair.from_text(HALF, id="2"), Pair(("a", "b\udfff"), id="4")]
    predictor = Predictor(model.eval(), batching=BatchConfig(batch_pieces=16 * batch_size))
    expected = [next(predictor([pair])) for pair in good]
    found = list(predictor([good[0], bad[0], good[1], bad[1]]))
    assert [line["id"] for line in found] == ["1", "2", "3", "4"]
    assert [line.get("error") for line in (found[0], found[2])] == [None, None]
    for line, alone in zip((found[0], found[2]), expected, strict=True):
        # what is promised (docs/scale.md): a post that is padded with others may have another sixth digit in a score
        scores = [entity.pop("score") for entity in line["entities"]]
        assert scores == pytest.approx([entity.pop("score") for entity in alone["entities"]], abs=2e-6)
        assert line == alone
    for line in (found[1], found[3]):
        assert line["error"].startswith("half of a surrogate pair")
        assert "entities" not in line


def test_garbage_of_a_run_changes_no_mode_of_its_caller() -> None:
    model = BERTCRF(tiny_encoder(hidden_size=16, num_layers=1, heads=2), LabelSet.from_types(["LOC"])).eval()
    posts = [Pair.from_text(text, id=str(number)) for number, text in enumerate(("Paris", HALF, "London", "Rome"))]
    predictor = Predictor(model, batching=BatchConfig(batch_pieces=16, workers=2, precision="fp32"))
    with torch.inference_mode():
        list(predictor(posts))
        gc.collect()
        assert torch.is_inference_mode_enabled()
    with torch.enable_grad():
        list(predictor(posts))
        gc.collect()
        assert torch.is_grad_enabled()


@pytest.mark.filterwarnings("always:1 of 3 posts")
def test_output_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = BERTCRF(tiny_encoder(["paris"], hidden_size=16, num_layers=1, heads=2), LabelSet.from_types(["LOC"]))
    model.save_pretrained(tmp_path / "model")
    texts = ["Paris", HALF, "London"]
    posts = tmp_path / "posts.jsonl"
    posts.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts)))
    out = tmp_path / "out.jsonl"
    arguments = ["predict", "--model", str(tmp_path / "model"), "--posts", str(posts), "--out", str(out)]
    main([*arguments, "--progress", "false"])
    assert "1 of 3 posts have an error in the place of entities: '1'" in capsys.readouterr().err
    *lines, last = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert last == {"posts": 3, "posts_with_errors": 1, "first_errors": [{"id": "1", "error": lines[1]["error"]}]}
    assert [line["text"] for line in lines] == texts
    assert ["error" in line for line in lines] == [False, True, False]
    before = out.read_bytes()

    def stop(self: Predictor, pairs: object, progress: object) -> Iterator[dict[str, object]]:
        yield {"id": "0", "text": "Paris", "entities": []}
        os.kill(os.getpid(), signal.SIGTERM)
        yield {}

    monkeypatch.setattr(Predictor, "__call__", stop)
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--progress", "false"])
    assert ended.value.code == 143
    assert f"stopped by SIGTERM; {out} is unchanged" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out.jsonl", "posts.jsonl"]


def test_posts_that_all_fail_are_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = tiny_encoder(["paris"], hidden_size=16, num_layers=1, heads=2)
    BERTCRF(encoder, LabelSet.from_types(["LOC"])).save_pretrained(tmp_path / "model")
    posts, out = tmp_path / "posts.jsonl", tmp_path / "out.jsonl"
    posts.write_text("".join(json.dumps({"id": str(i), "text": HALF}) + "\n" for i in range(2)))
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--model", str(tmp_path / "model"), "--posts", str(posts), "--out", str(out)])
    assert ended.value.code == 2
    assert "none of 2 posts could be predicted; the first: half of a surrogate pair" in capsys.readouterr().err
    *lines, last = map(json.loads, out.read_text().splitlines())
    assert ["error" in line for line in lines] == [True, True]
    assert (last["posts"], last["posts_with_errors"]) == (2, 2)
