"""Grounding: every phrase has the boxes with its highest scores in a direct call of the model."""

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
from red_rectangles import RED_BOX, find_red_box, red_boxes, rotated_files
from torch import Tensor, nn

from mnergraph.features.text.noun_chunks import Phrase, RuleChunker, noun_phrases
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.extractor import ImageEvidence
from mnergraph.features.vision.grounding import GENERIC_QUERIES, PhraseGrounder
from mnergraph.graph import Grounded
from mnergraph.pair import Pair

KINDS = ["grounding dino", "owlv2", "owlvit"]
IMAGES = [noise(48, 32, 1), noise(48, 32, 2), noise(32, 48, 3), noise(48, 32, 4)]
PHRASES = [
    [Phrase("a hat", (0, 2)), Phrase("The crowd.", (3, 5))],
    [],
    [Phrase("two dog cat", (1, 4))],
    [Phrase("man", (2, 3)), Phrase("?", (4, 5)), Phrase("a dog", (5, 7))],
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    index = tmp_path_factory.mktemp("grounders")
    return {kind: tiny_models.grounder(kind, index / kind.replace(" ", "-")) for kind in KINDS}


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
def reference(kind: str, folder: str, image: Any, phrases: list[Phrase], top_k: int) -> list[tuple]:
    """Return phrase, span, score and box by a direct call of the model, highest score first."""
    processor = hf.AutoProcessor.from_pretrained(folder)
    model = hf.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    queries = [*phrases, *(Phrase(word) for word in GENERIC_QUERIES)]
    found = []
    if kind == "grounding dino":
        texts = [phrase.text.lower().strip(".?") for phrase in queries]
        inputs = processor(images=image, text=" ".join(f"{text} ." for text in texts if text), return_tensors="pt")
        outputs = model(**inputs)
        ids, index, spans = inputs["input_ids"][0].tolist(), 1, []
        for text in texts:
            length = len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
            spans.append(range(index, index + length))
            index += length + 1 if text else 0
        assert ids[index] == 102
        scores = [
            outputs.logits[0].sigmoid()[:, span.start : span.stop].amax(-1) if span else torch.zeros(7)
            for span in spans
        ]
        boxes = corners(outputs.pred_boxes[0], *image.size)
    else:
        inputs = processor(images=image, text=[[phrase.text for phrase in queries]], return_tensors="pt")
        outputs = model(**inputs)
        scores = list(outputs.logits[0].sigmoid().T)
        square = (max(image.size),) * 2 if kind == "owlv2" else image.size
        boxes = corners(outputs.pred_boxes[0], *square)
    for phrase, phrase_scores in zip(queries, scores, strict=True):
        best = phrase_scores.topk(top_k)
        found += [
            (phrase.text, phrase.span, score, clipped(boxes[query], image.size))
            for score, query in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
    visible = [one for one in found if one[2] > 0 and (one[3][2:] > one[3][:2]).all()]
    return sorted(visible, key=lambda one: -one[2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top_k", [1, 3])
def test_every_phrase_keeps_its_boxes(kind: str, top_k: int, folders: dict[str, str]) -> None:
    extractor = PhraseGrounder(folders[kind], threshold=0.0, top_k_per_phrase=top_k)
    found = list(extractor.extract(IMAGES[:3], PHRASES[:3], progress=False))
    for image, phrases, evidence in zip(IMAGES, PHRASES, found, strict=False):
        expected = reference(kind, folders[kind], image, phrases, top_k)
        assert evidence.objects is not None
        assert len(evidence.objects) == len(expected) > 2
        actual = sorted((t.label, t.score, *(t.box or ())) for t in evidence.objects)
        reference_boxes = sorted((text, score, *box.tolist()) for text, _, score, box in expected)
        for one, other in zip(actual, reference_boxes, strict=True):
            assert one[0] == other[0]
            assert one[1:] == pytest.approx(other[1:], abs=1e-3)
        spans = {phrase.text: phrase.span for phrase in phrases}
        assert all(obj.span == spans.get(obj.label) for obj in evidence.objects)
        assert all(obj.region is None for obj in evidence.objects)


@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_the_batch(kind: str, folders: dict[str, str]) -> None:
    extractor = PhraseGrounder(folders[kind], threshold=0.0)
    together = extractor.extract(IMAGES, PHRASES, progress=False)
    for image, phrases, evidence in zip(IMAGES, PHRASES, together, strict=True):
        (alone,) = extractor.extract([image], [phrases], progress=False)
        assert_alike(alone, evidence)


def test_more_phrases_than_the_model_reads_at_once(folders: dict[str, str]) -> None:
    """The tiny model's text length is 32: generic queries and six phrases of ten letters need three texts."""
    many = [Phrase(letter * 10, (index, index + 1)) for index, letter in enumerate("uvwxyz")]
    extractor = PhraseGrounder(folders["grounding dino"], threshold=0.0)
    made = extractor.preprocess(IMAGES[0], many)
    assert made["input_ids"].shape == (3, 32)
    owners = made["owners"]
    assert sorted(set(owners.flatten().tolist())) == [-1, *range(10)]
    phrases_of_text = [set(row.tolist()) - {-1} for row in owners]
    assert sorted(number for row in phrases_of_text for number in row) == list(range(10)), "each in one text"
    (evidence,) = extractor.extract(IMAGES[:1], [many], progress=False)
    assert evidence.objects is not None
    assert {obj.span for obj in evidence.objects} <= {(n, n + 1) for n in range(6)} | {None}
    # scores and boxes equal those of a call with the phrases of one text only
    for row in phrases_of_text:
        texts = [[*many, *map(Phrase, GENERIC_QUERIES)][number] for number in sorted(row)]
        (own,) = replace(extractor, generic_queries=()).extract(IMAGES[:1], [texts], progress=False)
        assert own.objects is not None
        actual = {obj.label: obj for obj in own.objects}
        for obj in evidence.objects:
            if obj.label in actual:
                assert obj.score == pytest.approx(actual[obj.label].score, abs=1e-5)
                assert obj.box == pytest.approx(actual[obj.label].box, abs=1e-3)
    (endless,) = extractor.extract(IMAGES[:1], [[Phrase("v" * 99, (0, 1))]], progress=False)
    assert endless.issue is None


def test_thresholds_general_words_and_crops(folders: dict[str, str], tmp_path: Path) -> None:
    extractor = PhraseGrounder(folders["owlvit"], threshold=0.0, region_encoder=RegionEncoder(size=32))
    IMAGES[0].save(tmp_path / "1.png")
    (evidence,) = extractor.extract([tmp_path / "1.png"], PHRASES[:1], progress=False)
    assert evidence.objects is not None
    scores = [obj.score for obj in evidence.objects]
    assert scores == sorted(scores, reverse=True)
    boxes = [obj.box for obj in evidence.objects if obj.box]
    regions = torch.stack([obj.region for obj in evidence.objects])  # type: ignore[misc]
    torch.testing.assert_close(regions, RegionEncoder(size=32)(IMAGES[0], boxes), atol=1e-5, rtol=1e-4)
    middle = (scores[1] + scores[2]) / 2
    (few,) = replace(extractor, threshold=middle).extract([tmp_path / "1.png"], PHRASES[:1], progress=False)
    assert few.objects == evidence.objects[:2]
    (bare,) = replace(extractor, generic_queries=()).extract([tmp_path / "1.png"], progress=False)
    assert bare.objects == ()
    (general,) = extractor.extract([tmp_path / "1.png"], progress=False)
    assert general.objects is not None
    assert {obj.label for obj in general.objects} <= set(GENERIC_QUERIES)
    assert all(obj.span is None for obj in general.objects)


def test_grounded_phrases_become_edges(folders: dict[str, str]) -> None:
    """UMGF's grounded relation: a phrase's box is connected to its words, a generic query's box to all words."""
    words = ("a", "dog", "and", "the", "crowd")
    phrases = noun_phrases(words, RuleChunker())
    assert [phrase.span for phrase in phrases] == [(0, 2), (3, 5)]
    extractor = PhraseGrounder(folders["owlvit"], threshold=0.0, generic_queries=("person",))
    (evidence,) = extractor.extract(IMAGES[:1], [phrases], progress=False)
    pair = evidence.attach_to(Pair(words))
    from mnergraph.graph import Relation, Schema

    key = ("object", "guides", "token")
    graph = make_builder(Schema([Relation(*key, Grounded())]))(pair)
    source, target = graph[key].edge_index.tolist()
    for index, obj in enumerate(pair.objects):
        connected = {token for object, token in zip(source, target, strict=True) if object == index}
        assert connected == (set(range(5)) if obj.span is None else set(range(*obj.span)))


class RedBoxDetector(nn.Module):
    """Stands for OWL-ViT: the second patch returns the box of the red pixels for every phrase."""

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Any:
        height, width = pixel_values.shape[-2:]
        boxes = torch.stack([find_red_box(one, dark=-9.0) for one in pixel_values])
        boxes = boxes / torch.tensor([width, height, width, height])
        pred = torch.full((len(boxes), 2, 4), 0.5)
        pred[:, 1] = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
        logits = torch.tensor([-9.0, 9.0])[None, :, None].expand(len(boxes), 2, len(input_ids) // len(boxes))
        return hf.models.owlv2.modeling_owlv2.Owlv2ObjectDetectionOutput(logits=logits, pred_boxes=pred)


@pytest.mark.parametrize("case", rotated_files())
def test_boxes_survive_letterboxing_and_rotation_to_the_pixel(
    case: str, folders: dict[str, str], tmp_path: Path
) -> None:
    extractor = PhraseGrounder(folders["owlv2"], generic_queries=("hat",))
    extractor.__dict__["network"] = RedBoxDetector()
    # 40 x 30 is padded to 40 x 40 and resized to 64 x 64
    (evidence,) = extractor.extract([rotated_files()[case](tmp_path)], progress=False)
    assert red_boxes(evidence) == [pytest.approx(RED_BOX, abs=0.7)]


def test_models_that_are_no_grounders(tmp_path: Path) -> None:
    detector = tiny_models.detector("detr", tmp_path / "detr")
    with pytest.raises(ValueError, match=r"is of type detr; what grounds is of grounding-dino, mm-grounding"):
        _ = PhraseGrounder(detector).prompt
    with pytest.raises(OSError, match="no zero-shot object detector at"):
        _ = PhraseGrounder(str(tmp_path / "nowhere")).network
    assert PhraseGrounder("google/owlv2-base").name == "google--owlv2-base-1-per-phrase"
