"""MGCMT: "Multi-Granularity Cross-Modality Representation Learning for Named Entity Recognition on Social
Media".

Liu, Wang, Li, Liu, Ren, Zhu and Sun, 2022.

Graph: tokens (words), the picture as a grid of image nodes, objects, and for every word the words nearest to
it in a table of word vectors, which reach it. Tokens, grid and objects all meet within themselves, and tokens
meet all of the grid and of the objects, both ways.

``paper`` computes equations 1 to 15. Where the paper is silent we choose: dropout on the words' states, on
attention weights and on residuals; a ReLU in the feed-forwards, 4 times as wide as the nodes; words hear
nothing of a picture that is not there. A post without objects has one of zeros (footnote 2). Detectors of
other classes than COCO's, and labels in free text such as a caption's noun phrases, want ``label_features``.

``released`` computes what the authors' code does: pieces as tokens, with tags of their own which both CRFs
read (`released_labels`); the sum of similar words, random ones where the table lacks the word (``seed`` of
`NearestWords.find`), is added to first pieces' states, dropout follows, and span detection reads the result,
not h; each level has a linear map of the picture and self-attentions of its own; BERT's layers, with their
GELU, norms and initial weights; the gate over objects weighs the superior level; see `fused_tagging_scores`, too.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.features.vision.detectors import COCO_CLASSES
from mnergraph.graph.edge_rules import Complete, NearestWordOf
from mnergraph.graph.node_types import Images, NearestWordNodes, Objects, Tokens, Unit
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.models.mgcmt.layers import (
    LEVELS,
    ObjectClasses,
    ProjectAndAdd,
    concat_linear,
    cross_modal_path,
    fused_tagging_scores,
    path_relations,
    semantic_augmentation,
)
from mnergraph.models.variants import Form, as_bert, begin_as_bert, is_released, released_labels
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.visual import ImageEncoder, ObjectEncoder
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import SpanDetectionHead, TaggingHead, span_detection_scores
from mnergraph.nn.layers.hetero import NodeTypeModule
from mnergraph.nn.layers.transformer import TransformerConfig, relations_used

TOKENS, AUGMENTS = ("token", "attends", "token"), ("similar", "augments", "token")


SCHEMA = Schema([Relation(*TOKENS, Complete()), Relation(*AUGMENTS, NearestWordOf())])


SCHEMA |= Schema(Relation(*key, Complete()) for kind in ("image", "object") for key in path_relations(kind))


class MGCMT(Tagger):
    """Multi-granularity cross-modality transformer (Liu et al., 2022).

    Args:
        encoder: the text encoder; every node is as wide as its states, d.
        labels: the label set; the released form adds the tags it needs.
        image_dim: width of the picture's vectors (2048 for a ResNet-152); None only without TextImg.
        nearest_words: the words' nearest neighbours in a table of word vectors, saved with the model; words outside
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
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        image_dim: int | None = None,
        nearest_words: NearestWords | None = None,
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
        released, d = is_released(form), encoder.hidden_size
        if not (text_img or text_obj) or not (basic_level or super_level):
            raise ValueError("without a path and a level nothing is left of the picture: take BERT-CRF")
        if text_img and image_dim is None:
            raise ValueError("TextImg reads the picture's features: give image_dim, or text_img=False")
        labels = released_labels(labels) if released else labels
        transformers = TransformerConfig(d, heads, hidden, dropout)
        transformers = as_bert(transformers) if released else transformers
        # eqs. 1-4
        text = TextEncoder(encoder) if released else TextEncoder(encoder, pooling="sum", dropout=dropout)
        join = ProjectAndAdd if released else concat_linear
        nearest = semantic_augmentation(AUGMENTS, nearest_words.vectors, d, join) if nearest_words is not None else []
        # eqs. 9-12: h; A of eq. 18, and its scores
        block = [transformers.layer(TOKENS)] if uni_text else []
        spans = span_detection_scores(TOKENS, labels, transformers) if span_detection else []
        meet = [*spans, *block] if released else [*block, *spans]
        dropped = [NodeTypeModule({"token": nn.Dropout(dropout)})] if released else []
        layers: list[nn.Module] = [text, *nearest, *dropped, *meet]
        levels = [level for level, asked in zip(LEVELS, (basic_level, super_level), strict=True) if asked]
        path = partial(cross_modal_path, transformers=transformers, separate=released)
        if text_img and image_dim is not None:
            # eq. 6
            sides = {level: f"image, {level}" if released else "image" for level in levels}
            layers += [ImageEncoder(d, image_dim, out_key=name) for name in dict.fromkeys(sides.values())]
            layers += path("image", sides, out="TextImg", unimodal=uni_img)
        if text_obj:
            # eqs. 7-8
            table = partial(ObjectClasses, d, len(COCO_CLASSES), learn_nothing=released)
            layers.append(ObjectEncoder(d, label_dim=d) if label_features else table())
            sides, weighed = dict.fromkeys(levels, "object"), levels[-1 if released else 0]
            layers += path("object", sides, out="TextObj", unimodal=uni_obj, weighed=weighed)
        seen = ["TextImg"] * text_img + ["TextObj"] * text_obj
        lost = (0.5 if released else 0.0) if fusion_dropout is None else fusion_dropout
        after = [nn.ReLU()] if released else []
        layers += fused_tagging_scores(seen, d, len(labels), dropout=lost, after=after, extra=released)
        if released:
            begin_as_bert(layers[1:])
        unit: Unit = "pieces" if released else "words"
        trained: list[Head] = [TaggingHead(CRF(labels.tags), labels, unit=unit)]
        if span_detection:
            trained.append(SpanDetectionHead(labels, weight=span_weight))
        classes = None if label_features else COCO_CLASSES
        node_types = {
            "token": Tokens(encoder.tokenizer, labels, unit=unit),
            "image": Images(image_dim),
            "object": Objects(encoder.tokenizer, classes=classes, add_placeholder=True),
            "similar": NearestWordNodes(nearest_words),
        }
        schema = Schema(relation for relation in SCHEMA if relation.key in relations_used(layers))
        super().__init__(
            schema=schema,
            layers=layers,
            heads=trained,
            encoder=encoder,
            labels=labels,
            node_types=[node_type for name, node_type in node_types.items() if name in schema.nodes],
            nearest_words=nearest_words,
        )
