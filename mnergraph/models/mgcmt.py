"""MGCMT: "Multi-Granularity Cross-Modality Representation Learning for Named Entity Recognition on Social
Media".

Liu, Wang, Li, Liu, Ren, Zhu and Sun, 2022.

Graph: tokens (words), the picture as a grid of image nodes, objects, and for every word the words nearest to
it in a table of word vectors. Tokens, grid and objects all meet within themselves, and tokens meet all of the
grid and of the objects, both ways; a similar word reaches the word that it resembles.

``paper`` computes equations 1 to 15. Where the paper is silent we choose: dropout on the words' states, on
attention weights and on residuals; a ReLU in the feed-forwards, 4 times as wide as the nodes; a word that the
table lacks has no similar words, and its E_A is zeros; words hear nothing of a picture that is not there. A
post without objects has one of zeros (footnote 2). The paper's 81 classes are COCO's 80 and the background;
ours are the 80 and one for every other label. Other detectors, and labels in free text such as a caption's
noun phrases, want ``label_features``: objects then speak by the embedding of their label.

``released`` computes what the authors' code does: pieces as tokens, with tags of their own which both CRFs
read (`released_labels`); the sum of similar words, on first pieces alone, is added through a linear map, and
dropout follows; span detection reads that, not h; each level has a linear map of the picture and a
self-attention of grid and objects of its own; BERT's layers, with their GELU, norms and initial weights; the
gate over objects weighs the superior level; S = ReLU(linear(dropout [S_v ; S_o])), and one more linear map
before the tags. Of its table of 85 classes ours has the first 81, row 0 for no object at all, and one row for
other labels. Its random vectors for words that the table lacks are `SimilarWords.find`'s ``seed``.

Without TextObj or TextImg, S is what the other path says, as in the released code; a path of one level has no
gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from mnergraph.features.backbone import Backbone
from mnergraph.features.similar import SimilarWords
from mnergraph.graph import Complete, Relation, Resembles, Schema
from mnergraph.labels import Labels
from mnergraph.models.base import Tagger
from mnergraph.models.released import BERT_LAYER, Form, bert_init, is_released, released_labels
from mnergraph.nn.blocks import ThereAndBack, TransformerBlock, spoken
from mnergraph.nn.crf import CRF
from mnergraph.nn.encoders import ImageEncoder, ObjectEncoder, TextEncoder
from mnergraph.nn.fusion import Apply, EachNode, RelationalLayer
from mnergraph.nn.gates import Highway
from mnergraph.nn.heads import Emit, Task
from mnergraph.nn.heads import span_detection as span_task
from mnergraph.nn.joining import AddLinear, Joined
from mnergraph.nn.lookups import CosineSum, ObjectClasses, SimilarVectors

TOKENS, AUGMENTS = ("token", "attends", "token"), ("similar", "augments", "token")
SCHEMA = Schema(
    [
        Relation(*TOKENS, Complete()),
        Relation(*AUGMENTS, Resembles()),
        *(
            Relation(*ends, Complete())
            for kind in ("image", "object")
            for ends in ((kind, "attends", kind), (kind, "guides", "token"), ("token", "guides", kind))
        ),
    ]
)
#: The classes of Mask R-CNN on COCO, in their order.
COCO = tuple(
    name
    for name in MaskRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    if name not in ("__background__", "N/A")
)


class MGCMT(Tagger):
    """Multi-granularity cross-modality transformer (Liu et al., 2022).

    What tables 4 to 6 take away are arguments: SemAug by ``similar=None``, the rest by flags.

    Args:
        encoder: the text encoder; every node is as wide as its states, d.
        labels: the label set; the released form adds the tags it needs.
        image_width: width of the picture's vectors (2048 for a ResNet-152); None only without TextImg.
        similar: the words' nearest neighbours in a table of word vectors, saved with the model; words outside
            its vocabulary have none. None is the ablation: no semantic augmentation.
        form: ``paper`` (equations 1 to 15) or ``released`` (what the authors' code computes).
        label_features: whether objects speak by the embedding of their label, in free text, and not by a
            learned row for its class in COCO.
        text_img: TextImg, the path over the picture's grid.
        text_obj: TextObj, the path over objects.
        span_detection: entity span detection as a side task (ESD).
        basic_level: words query the visual side (S_1).
        super_level: they do so after it has queried them (S_2).
        uni_text: self-attention among words before the paths.
        uni_img: self-attention in the grid.
        uni_obj: self-attention among objects.
        span_weight: of span detection in the loss, lambda.
        heads: of every attention.
        hidden: inside the feed-forwards; by default 4 times the width.
        dropout: of words' states, attention weights and residuals.
        fusion_dropout: on [S_v ; S_o]; by default none (paper) or 0.5 (released).
    """

    def __init__(
        self,
        encoder: Backbone,
        labels: Labels,
        *,
        image_width: int | None = None,
        similar: SimilarWords | None = None,
        form: Form = "paper",
        label_features: bool = False,
        text_img: bool = True,
        text_obj: bool = True,
        span_detection: bool = True,
        basic_level: bool = True,
        super_level: bool = True,
        uni_text: bool = True,
        uni_img: bool = True,
        uni_obj: bool = True,
        span_weight: float = 0.5,
        heads: int = 12,
        hidden: int | None = None,
        dropout: float = 0.1,
        fusion_dropout: float | None = None,
    ) -> None:
        released, d = is_released(form), encoder.width
        if not (text_img or text_obj) or not (basic_level or super_level):
            raise ValueError(
                "without both paths or both levels nothing is left of the picture: take BERT-CRF"
            )
        if text_img and image_width is None:
            raise ValueError(
                "TextImg reads the picture's features: give image_width, how wide they are, or text_img=False"
            )
        labels = released_labels(labels) if released else labels
        how: dict[str, Any] = {"width": d, "heads": heads, "hidden": hidden, "dropout": dropout}
        how |= BERT_LAYER if released else {}
        levels = [name for name, asked in (("basic", basic_level), ("superior", super_level)) if asked]
        layers = [*_words(encoder, len(labels.boundaries), similar, how, released, uni_text, span_detection)]
        if text_img and image_width is not None:
            # eq. 6
            sides = {level: f"image, {level}" if released else "image" for level in levels}
            layers += [ImageEncoder(d, image_width, out=name) for name in dict.fromkeys(sides.values())]
            layers += _path("image", "TextImg", sides, how, released, uni_img)
        if text_obj:
            # eqs. 7-8
            table = ObjectClasses(d, len(COCO), learn_nothing=released)
            layers.append(ObjectEncoder(d, label_width=d) if label_features else table)
            layers += _path("object", "TextObj", dict.fromkeys(levels, "object"), how, released, uni_obj)
        seen = [name for name, asked in (("TextImg", text_img), ("TextObj", text_obj)) if asked]
        layers += _decoder(seen, d, len(labels), fusion_dropout, released)
        if released:
            for layer in layers[1:]:
                layer.apply(bert_init)
        used = spoken(layers)
        tasks = [Task("tags", CRF(labels.tags))]
        super().__init__(
            schema=Schema(relation for relation in SCHEMA if relation.key in used),
            layers=layers,
            tasks=[*tasks, span_task(labels, span_weight)] if span_detection else tasks,
            encoder=encoder,
            labels=labels,
            tokens="pieces" if released else "words",
            image_width=image_width if text_img else None,
            similar=similar,
            classes=None if label_features else COCO,
            stand_in=True,
        )


def _words(
    encoder: Backbone,
    boundaries: int,
    similar: SimilarWords | None,
    how: dict[str, Any],
    released: bool,
    unimodal: bool,
    spans: bool,
) -> Iterator[nn.Module]:
    """Sections 3.2.1 and 3.2.4: E_B, E and h; and span detection."""
    d, dropout = encoder.width, how["dropout"]
    # eq. 1
    yield TextEncoder(encoder) if released else TextEncoder(encoder, pooling="sum", dropout=dropout)
    if similar is not None:
        yield SimilarVectors(similar.vectors)
        # eqs. 2-4
        join = AddLinear(d, similar.width) if released else Joined(nn.Linear(d + similar.width, d))
        yield RelationalLayer({AUGMENTS: CosineSum()}, combine=lambda: join)
    # eqs. 9-12: h; A of eq. 18, and its scores
    block = [TransformerBlock(TOKENS, **how)] if unimodal else []
    detect = [TransformerBlock(TOKENS, **how, out="spans"), Emit("spans", d, boundaries, read=("spans",))]
    found = detect if spans else []
    yield from [EachNode({"token": nn.Dropout(dropout)}), *found, *block] if released else [*block, *found]


def _path(
    kind: str, out: str, sides: dict[str, str], how: dict[str, Any], released: bool, unimodal: bool
) -> Iterator[nn.Module]:
    """TextImg or TextObj (sections 3.2.4 and 3.3): from each level's visual side, by name, to S_v or S_o."""
    to_words, to_kind = (kind, "guides", "token"), ("token", "guides", kind)
    heard = {level: f"{kind}, {level}" if released else kind for level in sides} if unimodal else sides
    if unimodal:
        # eqs. 9-12: V or O
        for before, after in dict.fromkeys((sides[level], heard[level]) for level in sides):
            yield TransformerBlock((kind, "attends", kind), **how, dst=before, src=before, out=after)
    found = {level: f"{out}, {level}" if len(sides) == 2 else out for level in sides}
    if "basic" in sides:
        yield TransformerBlock(to_words, **how, src=heard["basic"], out=found["basic"])
    if "superior" in sides:
        yield ThereAndBack(to_kind, to_words, **how, other=heard["superior"], out=found["superior"])
    if len(sides) == 2:
        # eqs. 13-14
        read = ["superior", "basic"] if released and kind == "object" else ["basic", "superior"]
        gate = Highway(how["width"], bias=True)
        yield Apply(gate, read=[found[level] for level in read], write=out)


def _decoder(
    seen: Sequence[str], width: int, labels: int, dropout: float | None, released: bool
) -> Iterator[nn.Module]:
    """Eq. 15 and section 3.4: from h and what the words have seen to the tags' scores."""
    if len(seen) == 2:
        # eq. 15
        dropped = nn.Dropout((0.5 if released else 0.0) if dropout is None else dropout)
        linear = nn.Linear(2 * width, width)
        fusion = nn.Sequential(dropped, linear, nn.ReLU()) if released else nn.Sequential(dropped, linear)
        yield Apply(Joined(fusion), read=seen, write="S")
    # P = [h ; S]
    both = ("token", "S" if len(seen) == 2 else seen[0])
    if released:
        yield Apply(Joined(nn.Linear(2 * width, width)), read=both, write="token")
    yield Emit("tags", width, labels) if released else Emit("tags", 2 * width, labels, read=both)
