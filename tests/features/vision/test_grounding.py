"""Grounding: each phrase keeps the boxes that the model, asked directly, scores best for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers as hf
from fakes import make_builder
from odd_images import noise
from red_rectangles import RED_BOX, red_boxes, red_in, sighting
from torch import Tensor, nn

from mnergraph.features.text.noun_chunks import Phrase, RuleChunker, noun_phrases
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.extractor import ImageEvidence
from mnergraph.features.vision.grounding import GENERIC_QUERIES, PhraseGrounder
from mnergraph.graph import Grounded
from mnergraph.pair import Pair

KINDS = ["grounding dino", "owlv2", "owlvit"]
PICTURES = [noise(48, 32, 1), noise(48, 32, 2), noise(32, 48, 3), noise(48, 32, 4)]
PHRASES = [
    [Phrase("a hat", (0, 2)), Phrase("The crowd.", (3, 5))],
    [],
    [Phrase("two dog cat", (1, 4))],
    [Phrase("man", (2, 3)), Phrase("?", (4, 5)), Phrase("a dog", (5, 7))],
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("grounders")
    return {kind: tiny_models.grounder(kind, place / kind.replace(" ", "-")) for kind in KINDS}


def corners(boxes: Tensor, width: float, height: float) -> Tensor:
    x, y, w, h = boxes.unbind(-1)
    both = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)
    return both * torch.tensor([width, height, width, height])


def assert_alike(one: ImageEvidence, other: ImageEvidence) -> None:
    assert one.objects is not None
    assert other.objects is not None
    assert [(t.label, t.span) for t in one.objects] == [(t.label, t.span) for t in other.objects]
    for a, b in zip(one.objects, other.objects, strict=True):
        assert a.box == pytest.approx(b.box, abs=1e-3)
        assert a.score == pytest.approx(b.score, abs=1e-5)


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    return boxes.clamp(min=0).minimum(torch.tensor([*size, *size], dtype=torch.float))


@torch.no_grad()
def plain(kind: str, folder: str, picture: Any, phrases: list[Phrase], most: int) -> list[tuple]:
    """Phrase, span, score and box by a plain call of the model with a plain text."""
    processor = hf.AutoProcessor.from_pretrained(folder)
    model = hf.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    asked = [*phrases, *(Phrase(word) for word in GENERIC_QUERIES)]
    found = []
    if kind == "grounding dino":
        texts = [phrase.text.lower().strip(".?") for phrase in asked]
        inputs = processor(images=picture, text=" ".join(f"{text} ." for text in texts if text), return_tensors="pt")
        said = model(**inputs)
        ids, place, spans = inputs["input_ids"][0].tolist(), 1, []
        for text in texts:
            length = len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
            spans.append(range(place, place + length))
            place += length + 1 if text else 0
        assert ids[place] == 102
        scores = [
            said.logits[0].sigmoid()[:, span.start : span.stop].amax(-1) if span else torch.zeros(7) for span in spans
        ]
        boxes = corners(said.pred_boxes[0], *picture.size)
    else:
        inputs = processor(images=picture, text=[[phrase.text for phrase in asked]], return_tensors="pt")
        said = model(**inputs)
        scores = list(said.logits[0].sigmoid().T)
        square = (max(picture.size),) * 2 if kind == "owlv2" else picture.size
        boxes = corners(said.pred_boxes[0], *square)
    for phrase, sure in zip(asked, scores, strict=True):
        best = sure.topk(most)
        found += [
            (phrase.text, phrase.span, score, clipped(boxes[query], picture.size))
            for score, query in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
    visible = [one for one in found if one[2] > 0 and (one[3][2:] > one[3][:2]).all()]
    return sorted(visible, key=lambda one: -one[2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [1, 3])
def test_every_phrase_keeps_its_boxes(kind: str, most: int, folders: dict[str, str]) -> None:
    extractor = PhraseGrounder(folders[kind], threshold=0.0, top_k_per_phrase=most)
    found = list(extractor.extract(PICTURES[:3], PHRASES[:3], progress=False))
    for picture, phrases, observed in zip(PICTURES, PHRASES, found, strict=False):
        wanted = plain(kind, folders[kind], picture, phrases, most)
        assert observed.objects is not None
        assert len(observed.objects) == len(wanted) > 2
        mine = sorted((t.label, t.score, *(t.box or ())) for t in observed.objects)
        theirs = sorted((text, score, *box.tolist()) for text, _, score, box in wanted)
        for one, other in zip(mine, theirs, strict=True):
            assert one[0] == other[0]
            assert one[1:] == pytest.approx(other[1:], abs=1e-3)
        spans = {phrase.text: phrase.span for phrase in phrases}
        assert all(thing.span == spans.get(thing.label) for thing in observed.objects)
        assert all(thing.region is None for thing in observed.objects)


@pytest.mark.parametrize("kind", KINDS)
def test_alone_against_together(kind: str, folders: dict[str, str]) -> None:
    extractor = PhraseGrounder(folders[kind], threshold=0.0)
    together = extractor.extract(PICTURES, PHRASES, progress=False)
    for picture, phrases, observed in zip(PICTURES, PHRASES, together, strict=True):
        (alone,) = extractor.extract([picture], [phrases], progress=False)
        assert_alike(alone, observed)


def test_more_phrases_than_the_model_reads_at_once(folders: dict[str, str]) -> None:
    """The tiny model reads 32 pieces: with the general words, six phrases of ten letters are three texts."""
    many = [Phrase(letter * 10, (place, place + 1)) for place, letter in enumerate("uvwxyz")]
    extractor = PhraseGrounder(folders["grounding dino"], threshold=0.0)
    made = extractor.preprocess(PICTURES[0], many)
    assert made["input_ids"].shape == (3, 32)
    owners = made["owners"]
    assert sorted(set(owners.flatten().tolist())) == [-1, *range(10)]
    held = [set(row.tolist()) - {-1} for row in owners]
    assert sorted(number for row in held for number in row) == list(range(10)), "each in one text"
    (observed,) = extractor.extract(PICTURES[:1], [many], progress=False)
    assert observed.objects is not None
    assert {thing.span for thing in observed.objects} <= {(n, n + 1) for n in range(6)} | {None}
    # what a text of its own says of the phrases that stand in it
    for row in held:
        texts = [[*many, *map(Phrase, GENERIC_QUERIES)][number] for number in sorted(row)]
        (own,) = replace(extractor, generic_queries=()).extract(PICTURES[:1], [texts], progress=False)
        assert own.objects is not None
        mine = {thing.label: thing for thing in own.objects}
        for thing in observed.objects:
            if thing.label in mine:
                assert thing.score == pytest.approx(mine[thing.label].score, abs=1e-5)
                assert thing.box == pytest.approx(mine[thing.label].box, abs=1e-3)
    (endless,) = extractor.extract(PICTURES[:1], [[Phrase("v" * 99, (0, 1))]], progress=False)
    assert endless.issue is None


def test_thresholds_general_words_and_crops(folders: dict[str, str], tmp_path: Path) -> None:
    extractor = PhraseGrounder(folders["owlvit"], threshold=0.0, region_encoder=RegionEncoder(size=32))
    PICTURES[0].save(tmp_path / "1.png")
    (observed,) = extractor.extract([tmp_path / "1.png"], PHRASES[:1], progress=False)
    assert observed.objects is not None
    scores = [thing.score for thing in observed.objects]
    assert scores == sorted(scores, reverse=True)
    boxes = [thing.box for thing in observed.objects if thing.box]
    regions = torch.stack([thing.region for thing in observed.objects])  # type: ignore[misc]
    torch.testing.assert_close(regions, RegionEncoder(size=32)(PICTURES[0], boxes), atol=1e-5, rtol=1e-4)
    middle = (scores[1] + scores[2]) / 2
    (few,) = replace(extractor, threshold=middle).extract([tmp_path / "1.png"], PHRASES[:1], progress=False)
    assert few.objects == observed.objects[:2]
    (bare,) = replace(extractor, generic_queries=()).extract([tmp_path / "1.png"], progress=False)
    assert bare.objects == ()
    (general,) = extractor.extract([tmp_path / "1.png"], progress=False)
    assert general.objects is not None
    assert {thing.label for thing in general.objects} <= set(GENERIC_QUERIES)
    assert all(thing.span is None for thing in general.objects)


def test_grounded_phrases_become_edges(folders: dict[str, str]) -> None:
    """From a sentence to UMGF's grounded relation: a phrase's words meet its box, all words a general one."""
    words = ("a", "dog", "and", "the", "crowd")
    phrases = noun_phrases(words, RuleChunker())
    assert [phrase.span for phrase in phrases] == [(0, 2), (3, 5)]
    extractor = PhraseGrounder(folders["owlvit"], threshold=0.0, generic_queries=("person",))
    (observed,) = extractor.extract(PICTURES[:1], [phrases], progress=False)
    pair = observed.attach_to(Pair(words))
    from mnergraph.graph import Relation, Schema

    key = ("object", "guides", "token")
    graph = make_builder(Schema([Relation(*key, Grounded())]))(pair)
    source, target = graph[key].edge_index.tolist()
    for place, thing in enumerate(pair.objects):
        met = {token for object, token in zip(source, target, strict=True) if object == place}
        assert met == (set(range(5)) if thing.span is None else set(range(*thing.span)))


class Finder(nn.Module):
    """In place of OWL: its second patch finds, for every phrase, where the image that it gets is red."""

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Any:
        height, width = pixel_values.shape[-2:]
        boxes = torch.stack([red_in(one, dark=-9.0) for one in pixel_values])
        boxes = boxes / torch.tensor([width, height, width, height])
        pred = torch.full((len(boxes), 2, 4), 0.5)
        pred[:, 1] = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
        logits = torch.tensor([-9.0, 9.0])[None, :, None].expand(len(boxes), 2, len(input_ids) // len(boxes))
        return hf.models.owlv2.modeling_owlv2.Owlv2ObjectDetectionOutput(logits=logits, pred_boxes=pred)


@pytest.mark.parametrize("case", sighting())
def test_boxes_survive_letterboxing_and_rotation_to_the_pixel(
    case: str, folders: dict[str, str], tmp_path: Path
) -> None:
    extractor = PhraseGrounder(folders["owlv2"], generic_queries=("hat",))
    extractor.__dict__["network"] = Finder()
    # 40 x 30 lies in a square of 40, which becomes 64
    (observed,) = extractor.extract([sighting()[case](tmp_path)], progress=False)
    assert red_boxes(observed) == [pytest.approx(RED_BOX, abs=0.7)]


def test_what_does_not_ground(tmp_path: Path) -> None:
    detector = tiny_models.detector("detr", tmp_path / "detr")
    with pytest.raises(ValueError, match=r"is of type detr; what grounds is of grounding-dino, mm-grounding"):
        _ = PhraseGrounder(detector).prompt
    with pytest.raises(OSError, match="no zero-shot object detector at"):
        _ = PhraseGrounder(str(tmp_path / "nowhere")).network
    assert PhraseGrounder("google/owlv2-base").name == "google--owlv2-base-1-per-phrase"
