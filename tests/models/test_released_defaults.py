"""What the released codes do beyond their formulas: cuts, crops, initial weights, batch norms, look-ups and scoring."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.features.vision.crops import CropPixels, RegionEncoder, crop_box
from mnergraph.graph import collate
from mnergraph.graph.builder import GraphBuilder
from mnergraph.graph.node_types import Objects, Tokens
from mnergraph.graph.schema import Schema
from mnergraph.labels import LabelSet
from mnergraph.metrics.scores import score
from mnergraph.models import MGCMT, UMGF, UMT, Tagger
from mnergraph.models.mgcmt.model import AUGMENTS
from mnergraph.models.umgf.model import ResNetConfig
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.conv.gated_sum import GatedSum
from mnergraph.nn.encoders.crops import PixelEncoder
from mnergraph.nn.encoders.visual import ObjectEncoder
from mnergraph.nn.heads.tagging import TaggingScores
from mnergraph.nn.layers.hetero import FeedForward
from mnergraph.nn.layers.transformer import CoAttention, TransformerLayer
from mnergraph.pair import DetectedObject, Pair
from mnergraph.training.build import nearest_words_options
from mnergraph.training.evaluate import evaluate

LABELS = LabelSet.from_types(["PER", "LOC"])
WIDTH = 12


def encoder(**options: int) -> TextEncoderModel:
    torch.manual_seed(2)
    return tiny_encoder(["bob", "saw", "paris"], **({"hidden_size": WIDTH, "num_layers": 1, "heads": 2} | options))


def nearest_words(**options: object) -> NearestWords:
    vectors = torch.arange(12.0).reshape(4, 3).sin()
    return NearestWords.from_table(("Bob", "bob", "paris", "saw"), vectors, ("Bob", "Paris", "saw"), progress=False,
                                   **options)  # fmt: skip


def released(name: str) -> Tagger:
    torch.manual_seed(0)
    if name == "UMGF":
        return UMGF(encoder(), LABELS, variant="released", region_dim=5, hidden_size=16, num_heads=4, num_layers=2)
    if name == "UMT":
        return UMT(encoder(), LABELS, variant="released", image_dim=5, num_heads=3)
    return MGCMT(encoder(), LABELS, variant="released", image_dim=5, num_heads=3, nearest_words=nearest_words())


def long_post(words: int) -> Pair:
    """A post whose words have several pieces each, and whose entities lie in its last words, too."""
    tags = tuple("B-PER" if index % 4 == 0 else "O" for index in range(words))
    return Pair(("Xylophonist", "saw", "Paris", "!") * (words // 4), tags, "long", image_features=torch.randn(4, 5),
                objects=(DetectedObject("person", (0, 0, 4, 4), region=torch.randn(5)),))  # fmt: skip


# --- long posts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["UMT", "UMGF", "MGCMT"])
def test_long_posts_are_cut_at_128_pieces(name: str) -> None:
    model = released(name).eval()
    long, short = long_post(160), long_post(4)
    pieces = model.encoder.tokenizer(long.words)
    kept, total = 0, 0
    for ids in pieces:  # a word that is cut in two keeps its first pieces
        if total >= 126:
            break
        kept, total = kept + 1, total + len(ids)
    assert 0 < kept < 160
    with pytest.warns(UserWarning, match=rf"post 'long' is cut at 128 pieces: its last {160 - kept} of 160 words are"):
        graph = model(collate(model.builder.build_all([short, long, short])))
    token, layout = graph.data["token"], graph.layouts["token"]
    assert int(layout.counts[1]) == 128
    expected = [model.encoder.tokenizer.start[0], *[i for ids in pieces for i in ids][:126]]
    start = int(layout.ptr[1])
    assert graph.data["piece"].input_ids[start : start + 127].tolist() == expected
    assert token.y[start + 127] == model.labels.index("[SEP]")
    tags = model.decode_tags(graph)
    assert [len(row) for row in tags] == [4, 160, 4]
    assert tags[1][kept:] == ["O"] * (160 - kept)
    # the same as a post that ends there, whose last word is cut by hand
    assert model.loss(graph).isfinite()
    spans = model.decode_entities(graph)
    assert all(entity.end <= kept for entity in spans[1])
    with pytest.warns(UserWarning, match="is cut"):
        alone = model(collate([model.builder(long)]))
    scores = graph.emissions["tags"][start : start + 128]
    torch.testing.assert_close(alone.emissions["tags"], scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("limit", [3, 4, 7, 50])
def test_a_cut_post_has_the_pieces_of_its_beginning(limit: int) -> None:
    tokenizer = encoder().tokenizer
    labels = LabelSet((*LABELS.tags, "PAD", "X", "[CLS]", "[SEP]"))
    schema = Schema(nodes=["token", "piece"])
    whole = GraphBuilder(schema, [Tokens(tokenizer, labels, unit="pieces")])(long_post(8))
    cut_builder = GraphBuilder(schema, [Tokens(tokenizer, labels, unit="pieces", max_pieces=limit)])
    if limit == 50:
        cut = cut_builder(long_post(8))
    else:
        with pytest.warns(UserWarning, match=f"cut at {limit} pieces"):
            cut = cut_builder(long_post(8))
    length = min(limit, whole["piece"].num_nodes) - 1
    for node_type, name in (("piece", "input_ids"), ("token", "word"), ("token", "y"), ("token", "starts_word")):
        assert cut[node_type][name][:length].tolist() == whole[node_type][name][:length].tolist()
        assert cut[node_type][name][-1] == whole[node_type][name][-1]
        assert len(cut[node_type][name]) == length + 1


def test_a_limit_of_pieces_is_none_of_words() -> None:
    with pytest.raises(ValueError, match="max_pieces limits tokens that are pieces"):
        Tokens(encoder().tokenizer, max_pieces=20)


@pytest.mark.filterwarnings("ignore:post 'long' is cut")
def test_nearest_words_of_words_that_are_cut_off_have_no_edges() -> None:
    data = released("MGCMT").builder(long_post(160))
    senders, receivers = data[AUGMENTS].edge_index
    assert len(senders) < data["similar"].num_nodes
    assert torch.equal(data["token"].word[receivers], data["similar"].word[senders])
    assert len(data[AUGMENTS].edge_attr) == len(senders)


# --- objects and crops -----------------------------------------------------------------------------------


def test_mgcmt_keeps_the_first_five_objects() -> None:
    labels = ("dog", "cat", "person", "tv", "car", "bus", "cup")
    post = Pair(("a", "word"), objects=tuple(map(DetectedObject, labels)))
    data = released("MGCMT").builder(post)
    assert data["object"].num_nodes == 5
    assert [item.label for item in data.pair.objects] == list(labels[:5])
    paper = MGCMT(encoder(), LABELS, image_dim=5, num_heads=3, nearest_words=nearest_words())
    assert paper.builder(post)["object"].num_nodes == 7
    assert Objects(max_objects=9).prepare(post) is post


BOXES = [(0, 0, 400, 300), (30, 50, 170, 206), (300, 20, 330, 290), (3, 3, 5, 4)]


@pytest.mark.parametrize("box", BOXES)
def test_center_crops_are_those_of_the_released_code(box: tuple[int, int, int, int]) -> None:
    torch.manual_seed(1)
    image = transforms.ToPILImage()(torch.rand(3, 300, 400))
    theirs = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])
    found = crop_box(image, box, 224, "center")
    assert found.shape == (3, 224, 224)
    torch.testing.assert_close(found / 255, theirs(image.crop(box)))
    assert not torch.equal(found, crop_box(image, box, 224))


def test_center_crops_everywhere(tmp_path: Path) -> None:
    torch.manual_seed(1)
    image = transforms.ToPILImage()(torch.rand(3, 40, 60))
    image.save(tmp_path / "1.png")
    post = Pair(("a",), image_path=tmp_path / "1.png", size=(60, 40), objects=(DetectedObject("", (3, 4, 50, 30)),))
    pixels, has = CropPixels(32, "center")(post)
    assert has.tolist() == [True]
    assert torch.equal(pixels[0], crop_box(image, (3, 4, 50, 30), 32, "center"))
    regions, squash = RegionEncoder(size=32, fit="center"), RegionEncoder(size=32)
    found = regions(image, [(3, 4, 50, 30)])
    assert torch.equal(regions.attach([post], progress=False)[0].objects[0].region, found[0])
    assert torch.equal(regions.encode_images([tmp_path / "1.png"], [[(3, 4, 50, 30)]])[0], found)
    assert not torch.allclose(found, squash(image, [(3, 4, 50, 30)]))
    # vectors of both never share a store or a cache
    assert regions.identity()["settings"] == {**squash.identity()["settings"], "fit": "center"}  # type: ignore[dict-item]
    assert regions.name == squash.name + "-center"
    with pytest.raises(ValueError, match="fit is squash or center, not 'letterbox'"):
        RegionEncoder(fit="letterbox")  # type: ignore[arg-type]


@pytest.fixture
def resnet(tmp_path: Path) -> ResNetConfig:
    from torchvision.models import resnet18

    torch.manual_seed(5)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet.pth")
    return ResNetConfig("resnet18", str(tmp_path / "resnet.pth"))


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_batch_norms_of_the_resnet(variant: str, resnet: ResNetConfig, tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), "red").save(tmp_path / "1.png")
    post = Pair(("a", "b"), ("O", "O"), image_path=tmp_path / "1.png", size=(60, 40),
                objects=(DetectedObject("", (0, 0, 30, 30)), DetectedObject("", (9, 9, 50, 40))))  # fmt: skip
    model = UMGF(encoder(), LABELS, variant=variant, resnet=resnet, hidden_size=16, num_heads=4, num_layers=1)  # type: ignore[arg-type]
    layer = next(part for part in model.layers if isinstance(part, PixelEncoder))
    crops = model.builder.node_types["object"].crop_reader
    assert crops == CropPixels(fit="center" if variant == "released" else "squash")
    before = layer.backbone.bn1.running_mean.clone()
    model.train()(collate([model.builder(post)]))
    assert torch.equal(layer.backbone.bn1.running_mean, before) == (variant == "paper")
    changed = layer.backbone.bn1.running_mean.clone()
    model.eval()(collate([model.builder(post)]))
    assert torch.equal(layer.backbone.bn1.running_mean, changed), "in evaluation the statistics stand"


def test_labels_of_objects() -> None:
    """The release has no features of labels; ours in the paper's form are our choice."""

    def has_labels(**options: object) -> bool:
        model = UMGF(encoder(), LABELS, region_dim=5, hidden_size=16, num_heads=4, num_layers=1, **options)  # type: ignore[arg-type]
        return next(part for part in model.layers if isinstance(part, ObjectEncoder)).label is not None

    assert [has_labels(), has_labels(label_features=False)] == [True, False]
    assert [has_labels(variant="released"), has_labels(variant="released", label_features=True)] == [False, True]


def test_objects_need_regions_or_labels() -> None:
    with pytest.raises(ValueError, match="objects without region vectors and labels: give region_dim, resnet or"):
        UMGF(encoder(), LABELS, variant="released")


# --- initial weights ---------------------------------------------------------------------------------------


def within(weight: Tensor, bound: float) -> bool:
    """Whether a large weight is uniform within a bound, by its extremes and its variance."""
    return 0.9 * bound < float(weight.abs().max()) <= bound and abs(float(weight.var()) * 3 / bound**2 - 1) < 0.1


def test_initial_weights_of_umgf() -> None:
    torch.manual_seed(0)
    model = UMGF(encoder(hidden_size=64), LABELS, variant="released", region_dim=48, hidden_size=80, num_heads=4,
                 num_layers=3)  # fmt: skip
    _, _, objects, maps, *fusion, emit = model.layers
    fusion = fusion[:9]
    xavier = [
        part for part in (maps.types["object"], *fusion) for part in part.modules() if isinstance(part, nn.Linear)
    ]
    gates = [part for layer in fusion for part in layer.modules() if isinstance(part, GatedSum)]
    in_gates = {id(linear) for gate in gates for linear in (gate.dst, gate.src)}
    for linear in xavier:
        fan_in = 2 * linear.in_features if id(linear) in in_gates else linear.in_features
        assert within(linear.weight.detach(), (6 / (fan_in + linear.out_features)) ** 0.5)
        assert linear.bias is None or not linear.bias.any()
    assert len(gates) == 5
    # PyTorch's: within 1 / sqrt(inputs), biases too
    for linear in (objects.region, maps.types["token"], emit.linear):
        assert within(linear.weight.detach(), linear.in_features**-0.5)
        assert linear.bias.any()
    # copies of one layer, and of one map
    attention = [part for layer in fusion for part in layer.modules() if isinstance(part, RelationAttention)]
    assert all(torch.equal(part.query.weight, part.key.weight) for part in attention)
    feed_forward = [part for layer in fusion for part in layer.modules() if isinstance(part, FeedForward)]
    assert all(torch.equal(part.inner.weight, feed_forward[0].inner.weight) for part in feed_forward[::2])
    assert not torch.equal(feed_forward[0].inner.weight, feed_forward[1].inner.weight)
    assert torch.equal(gates[0].src.weight, gates[2].src.weight)
    assert len({id(part.query.weight) for part in attention}) == 6, "copies, not shared"
    paper = UMGF(encoder(hidden_size=64), LABELS, region_dim=48, hidden_size=80, num_heads=4)
    assert within(paper.layers[4].operators[0].query.weight.detach(), 80**-0.5)


def test_initial_weights_of_mgcmt() -> None:
    torch.manual_seed(0)
    model = MGCMT(encoder(hidden_size=120), LABELS, variant="released", image_dim=200, num_heads=3,
                  nearest_words=nearest_words())  # fmt: skip

    def path_of(layer: nn.Module) -> str:
        last = layer[-1] if isinstance(layer, CoAttention) else layer
        return " ".join([*last.relation, last.out_key])

    as_bert: list[str] = []
    for layer in model.layers[1:]:
        linears = [part for part in layer.modules() if isinstance(part, nn.Linear)]
        if isinstance(layer, TransformerLayer | CoAttention):
            is_bert = abs(float(linears[0].weight.detach().std()) / 0.02 - 1) < 0.05
            assert is_bert == (not linears[0].bias.any())
            if not is_bert:
                assert all(within(part.weight.detach(), part.in_features**-0.5) for part in linears)
            as_bert += [path_of(layer)] * is_bert
    assert as_bert == [
        "token attends token span_states",
        "token attends token token",
        "image guides token TextImg, basic",
        "image guides token TextImg, superior",
    ]
    by_name = {type(layer).__name__: layer for layer in model.layers}
    for name in ("ImageEncoder", "TaggingScores"):
        assert float(by_name[name].linear.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert float(by_name["ObjectClasses"].table.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    projection = model.layers[-2].module.module
    assert within(projection.weight.detach(), 120**-0.5)
    assert not within(MGCMT(encoder(), LABELS, image_dim=5, num_heads=3, nearest_words=nearest_words()).layers[-1]
                      .linear.weight.detach(), 0.02)  # fmt: skip


# --- nearest words and scoring ---------------------------------------------------------------------------


def test_nearest_words_are_looked_up_in_exact_case() -> None:
    assert nearest_words_options(MGCMT) == {}
    assert nearest_words_options(partial(MGCMT, variant="released")) == {"lower": False, "seed": 0}
    assert nearest_words_options(MGCMT, {"variant": "released"}) == {"lower": False, "seed": 0}
    assert nearest_words_options(UMT, {"variant": "released"}) == {}
    exact = nearest_words(**nearest_words_options(MGCMT, {"variant": "released"}))
    # Paris is in the table in lower case only: a random vector, as for every word that is not there
    assert exact.neighbors("Paris") == [("Paris", 1.0)]
    assert exact.neighbors("SAW") == []
    assert [name for name, _ in nearest_words().neighbors("Paris")][:1] != ["Paris"]


def chunks(tags: list[str]) -> set[tuple[str, int, int]]:
    """A plain reading of the authors' scorer: X and [CLS] are chunks of a type of their own."""
    found, kind, begin = set(), None, 0
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        name = name or prefix
        if kind is not None and (tag == "O" or name != kind or prefix == "B"):
            found.add((kind, begin, index))
            kind = None
        if tag != "O" and kind is None:
            kind, begin = name, index
    return found


@pytest.mark.parametrize("name", ["UMT", "MGCMT"])
def test_special_tags_count_as_entities_on_request(name: str) -> None:
    model = released(name).eval()
    words = ("Bob", "saw", "Paris", "!", "and", "Ann", "in", "Oslo", "with", "a", "dog", "?")
    tags = ("B-PER", "O", "B-LOC", "O", "O", "B-PER", "O", "B-LOC", "I-LOC", "O", "O", "O")
    posts = [
        Pair(words[start:], tags[start:], str(start), image_features=torch.randn(4, 5)) for start in range(0, 12, 2)
    ]
    with torch.no_grad():  # scores that vary from word to word
        for layer in model.layers:
            if isinstance(layer, TaggingScores):
                layer.linear.weight.normal_(std=30.0)
    graph = model.forward_examples(posts)
    raw = [[model.labels.tags[label] for label in row] for row in _labels_of_words(model, graph)]
    assert any(tag in ("X", "[CLS]", "[SEP]", "PAD") for row in raw for tag in row)
    scores, tags = evaluate(model, posts, special_tags="entities", progress=False)
    gold = [list(post.labels or ()) for post in posts]
    correct = sum(len(chunks(a) & chunks(b)) for a, b in zip(raw, gold, strict=True))
    predicted = sum(len(chunks(row)) for row in raw)
    assert scores.lenient.precision == pytest.approx(correct / predicted)
    assert scores.lenient.recall == pytest.approx(correct / sum(len(chunks(row)) for row in gold))
    plain, outside = evaluate(model, posts, progress=False)
    special = ("X", "[CLS]", "[SEP]", "PAD")
    assert outside == [["O" if tag in special else tag for tag in row] for row in raw]
    assert tags == [[f"I-{tag}" if tag in special else tag for tag in row] for row in raw]
    assert plain == score(gold, outside)
    assert plain.lenient.precision >= scores.lenient.precision


def _labels_of_words(model: Tagger, graph: object) -> list[list[int]]:
    """The best label of every word's first piece, by the CRF over each post alone."""
    rows = []
    token, layout = graph.data["token"], graph.layouts["token"]  # type: ignore[attr-defined]
    for start, end in zip(layout.ptr[:-1].tolist(), layout.ptr[1:].tolist(), strict=True):
        scores = graph.emissions["tags"][start:end][None]  # type: ignore[attr-defined]
        best = model.tagging_head.decoder.decode(scores, torch.ones(1, end - start, dtype=torch.bool))[0]
        rows.append(best[token.starts_word[start:end]].tolist())
    return rows


def test_replaced_variants_keep_their_limits() -> None:
    from mnergraph.models.umt import RELEASED

    model = UMT(encoder(), LABELS, variant=replace(RELEASED, max_pieces=None), image_dim=5, num_heads=3)
    assert len(model.decode_tags(model.forward_examples([long_post(160)]))[0]) == 160
