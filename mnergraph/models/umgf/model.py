"""UMGF: "Multi-modal Graph Fusion for Named Entity Recognition with Targeted Visual Guidance".

Zhang, Wei, Li, Wu, Zhu and Zhou, AAAI 2021.

Graph: tokens (words), all connected to one another, and objects, all connected to one another; the words of a
noun phrase are connected to the object that it grounds, objects found by generic queries to every word. A post
without objects is its text alone.

Where the paper is silent we choose, in addition to the choices of `fusion_layer`: one linear map with ReLU as
each MLP; sinusoidal positions; feed-forward layers 4 times as wide as the nodes.

The released code (`RELEASED`) differs in these points: tokens are word pieces, [CLS] and [SEP] among them, with
tags of their own in the CRF; every token is connected to every object (the code has exactly four crops); no
positions; one linear map of the text without ReLU; two linear maps with ReLU of the objects, after another one
of the ResNet's size; no value and output projections in the attention among objects; a bias in the gates, and
residual and layer norm after them; scores from the encoder's states and the graph's; the loss is a sum; a post is cut
at 128 pieces; labels are no features of objects; the ResNet's batch norms use the batch's statistics in training;
a crop's shorter side is resized to 256 pixels, of which the 224 x 224 in the middle are read, so that vectors that are
computed beforehand need a `RegionEncoder` with ``fit="center"``; initial weights, see `initialize_as_released`.
Weights of the release fit as long as `ObjectEncoder.fit_normalization` was not called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.vision.crops import CropFit, CropPixels, RegionEncoder
from mnergraph.graph.context import Context
from mnergraph.graph.edge_rules import Complete, Grounded
from mnergraph.graph.evidence_kinds import REGION_FEATURES
from mnergraph.graph.node_types import Images, NodeType, Objects
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.ablations import check_ablations
from mnergraph.models.base import Tagger
from mnergraph.models.umgf.layers import fusion_layer
from mnergraph.models.variants import Variant, VariantName, select_variant
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.conv.gated_sum import GatedSum
from mnergraph.nn.encoders.crops import PixelEncoder
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.visual import ImageEncoder, ObjectEncoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.grounding import Grounding
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores
from mnergraph.nn.layers.hetero import Add, AddNorm, CopyFeatures, NodeTypeModule, PositionalEncoding

TOKENS, OBJECTS = ("token", "attends", "token"), ("object", "attends", "object")
TO_TOKENS, TO_OBJECTS = ("object", "guides", "token"), ("token", "guides", "object")
INTRA = Schema([Relation(*TOKENS, Complete()), Relation(*OBJECTS, Complete())])
SCHEMA = INTRA | Schema([Relation(*TO_TOKENS, Grounded()), Relation(*TO_OBJECTS, Grounded())])
RELEASED_SCHEMA = INTRA | Schema([Relation(*TO_TOKENS, Complete()), Relation(*TO_OBJECTS, Complete())])
#: Without targeted objects: regions of the image, each connected to every word.
IMAGES = ("image", "attends", "image"), ("image", "guides", "token"), ("token", "guides", "image")
REGION_SCHEMA = Schema([Relation(*key, Complete()) for key in (TOKENS, *IMAGES)], nodes=["image"])

#: Name of the encoder's states, kept for the scores of the released code.
ENCODER_STATES = "encoder states"

#: The rows of the paper's ablation table.
NO_TARGETED_OBJECTS, NO_VISUAL_CORRELATION, NO_INDEPENDENCE = ABLATIONS = "w/o Tar.", "w/o VCorr.", "w/o Ind."


@dataclass(frozen=True, kw_only=True)
class UMGFVariant(Variant):
    """UMGF as in the paper, by default, or as in the released code.

    Args:
        token_unit: see `Variant`.
        bert_layers: see `Variant`; neither has them.
        max_pieces: see `Variant`.
        grounded: a phrase's words alone are connected to its object; otherwise every token to every object.
        positions: sinusoidal positions are added to the encoder's states.
        deep_object_map: objects have three linear maps, the first of the region vectors' size, and the text
            one without ReLU; otherwise both have one linear map with ReLU.
        object_projections: value and output projections in the attention among objects.
        gate_bias: a bias in the gates.
        gate_norm: residual with dropout and layer norm after the gated sums; otherwise the sum alone.
        skip_connection: the tags' scores are computed from the encoder's states, too.
        num_layers: fusion layers, L, where the model is not given another number.
        intermediate_size: of the feed-forward layers; None for 4 times the hidden size.
        dropout: where the model is not given another.
        reduction: of the loss over the sentences.
        label_features: the labels' embeddings are features of the objects, where the model is not given another value.
        crop_fit: how a crop becomes a square, see `crop_box`.
        train_batch_norm: batch norms of the ResNet use the batch's statistics in training.
        released_init: initial weights are those of `initialize_as_released`, otherwise PyTorch's.
    """

    grounded: bool = True
    positions: bool = True
    deep_object_map: bool = False
    object_projections: bool = True
    gate_bias: bool = False
    gate_norm: bool = False
    skip_connection: bool = False
    num_layers: int = 2
    intermediate_size: int | None = None
    dropout: float = 0.5
    reduction: Literal["mean", "sum"] = "mean"
    label_features: bool = True
    crop_fit: CropFit = "squash"
    train_batch_norm: bool = False
    released_init: bool = False


PAPER = UMGFVariant()
RELEASED = UMGFVariant(
    token_unit="pieces",
    grounded=False,
    positions=False,
    deep_object_map=True,
    object_projections=False,
    gate_bias=True,
    gate_norm=True,
    skip_connection=True,
    num_layers=6,
    intermediate_size=256,
    dropout=0.4,
    reduction="sum",
    max_pieces=128,
    label_features=False,
    crop_fit="center",
    train_batch_norm=True,
    released_init=True,
)


@dataclass(frozen=True)
class ResNetConfig:
    """A ResNet that is trained with the model on the objects' crops, as in paper and release.

    Args:
        name: torchvision's name.
        weights: initial weights, see `RegionEncoder`; by default those that torchvision had when the paper was written.
    """

    name: str = "resnet152"
    weights: str = "IMAGENET1K_V1"


class UMGF(Tagger):
    """Unified multi-modal graph fusion (Zhang et al., AAAI 2021).

    Args:
        encoder: text encoder.
        labels: label set; a variant over pieces adds the tags it needs.
        variant: ``paper`` (equations 1 to 8), ``released`` (the authors' code), or a `UMGFVariant`.
        ablate: rows of the paper's ablation table, any of `UMGF.ABLATIONS`; of the paper's variant only.
        region_dim: dimension of the objects' region vectors (2048 for a ResNet-152); None without any.
        image_dim: dimension of the vectors of image regions, which take the place of objects with "w/o Tar.".
        resnet: the ResNet to train on the objects' crops; by default region vectors are computed beforehand,
            which is our choice.
        label_features: the labels' embeddings are features of the objects, too, which neither paper nor release has;
            by default the variant's: with the paper's, without the released code's.
        hidden_size: of all nodes, d.
        num_layers: fusion layers, L; by default the variant's, 2 (paper) or 6 (released).
        num_heads: attention heads.
        dropout: by default the variant's, 0.5 (paper) or 0.4 (released).
        context: which texts about a post the encoder reads beside the sentence; None for none.
        grounding: how entities are grounded in the image; None where they are not.
    """

    ABLATIONS: ClassVar[tuple[str, ...]] = ABLATIONS

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        variant: VariantName | UMGFVariant = "paper",
        ablate: Collection[str] = (),
        region_dim: int | None = None,
        image_dim: int | None = None,
        resnet: ResNetConfig | None = None,
        label_features: bool | None = None,
        hidden_size: int = 512,
        num_layers: int | None = None,
        num_heads: int = 8,
        dropout: float | None = None,
        context: Context | None = None,
        grounding: Grounding | None = None,
    ) -> None:
        config = select_variant(variant, {"paper": PAPER, "released": RELEASED})
        ablate = check_ablations(ablate, self.ABLATIONS)
        label_features = config.label_features if label_features is None else label_features
        targeted, correlated = NO_TARGETED_OBJECTS not in ablate, NO_VISUAL_CORRELATION not in ablate
        if ablate and not config.grounded:
            raise ValueError("the ablations are those of the paper: take variant='paper'")
        if resnet and not targeted:
            raise ValueError(f"resnet encodes the objects' crops, and {NO_TARGETED_OBJECTS!r} leaves no objects")
        if targeted and not (label_features or resnet or region_dim):
            raise ValueError("objects without region vectors and labels: give region_dim, resnet or label_features")
        if not targeted and image_dim is None:
            raise ValueError(f"{NO_TARGETED_OBJECTS!r} needs image_dim, the dimension of the image regions' vectors")
        labels = config.label_set(labels)
        dropout = config.dropout if dropout is None else dropout
        pixels = []
        if resnet:
            crop_encoder = RegionEncoder(resnet.name, resnet.weights, fit=config.crop_fit)
            pixels = [PixelEncoder(crop_encoder, train_batch_norm=config.train_batch_norm)]
        region = pixels[0].out_channels if pixels else region_dim
        # "Multi-modal graph", last paragraph: H^(0)
        object_size = region or hidden_size if config.deep_object_map else hidden_size
        if targeted:
            label_dim = encoder.hidden_size if label_features else None
            visual_encoder: nn.Module = ObjectEncoder(object_size, region_dim=region, label_dim=label_dim)
            visual, schema = "object", SCHEMA if config.grounded else RELEASED_SCHEMA
            crops = CropPixels(fit=config.crop_fit) if resnet else None
            visual_nodes: NodeType = Objects(encoder.tokenizer, region_dim=region_dim, crop_reader=crops)
        else:
            visual_encoder = ImageEncoder(hidden_size, image_dim or 0)
            visual, schema, visual_nodes = "image", REGION_SCHEMA, Images(image_dim, grid=True)
        stack: list[nn.Module] = [TextEncoder(encoder), *pixels]
        if config.skip_connection:
            stack.append(CopyFeatures("token", ENCODER_STATES))
        if config.positions:
            stack.append(PositionalEncoding())
        maps = _deep_maps if config.deep_object_map else _shallow_maps
        node_maps = NodeTypeModule(maps(encoder.hidden_size, object_size, hidden_size, dropout, visual))
        stack += [visual_encoder, node_maps]
        within = (visual, "attends", visual)
        layer = partial(
            fusion_layer,
            hidden_size,
            num_heads,
            config.intermediate_size or 4 * hidden_size,
            dropout,
            intra=[TOKENS, within] if correlated else [TOKENS],
            inter=((visual, "guides", "token"), ("token", "guides", visual)),
            object_projections=config.object_projections,
            gate_bias=config.gate_bias,
            residual=_residual(config, hidden_size, dropout),
            shared=NO_INDEPENDENCE in ablate,
        )
        num_layers, first_layer = num_layers or config.num_layers, len(stack)
        for index in range(num_layers):
            stack += layer(is_last=index == num_layers - 1)
        if config.released_init:
            initialize_as_released(node_maps, stack[first_layer:], num_layers)
        states, width = ["token"], hidden_size
        if config.skip_connection:
            states, width = [ENCODER_STATES, "token"], encoder.hidden_size + hidden_size
        stack.append(TaggingScores(TAGS, width, len(labels), in_keys=states))
        super().__init__(
            schema=schema if correlated else schema.without(within),
            layers=stack,
            heads=[TaggingHead(CRF(labels.tags), labels, unit=config.token_unit)],
            encoder=encoder,
            context=context,
            grounding=grounding,
            labels=labels,
            node_types=[config.tokens(encoder.tokenizer, labels), visual_nodes],
            evidence=[REGION_FEATURES] * (targeted and resnet is None),
            reduction=config.reduction,
        )


def initialize_as_released(maps: NodeTypeModule, fusion: Sequence[nn.Module], num_layers: int) -> None:
    """Initialize the maps of the objects and the fusion layers in place, as UMGF's released code does.

    Weights are Xavier's (uniform), biases 0; that of a gate counts both of its inputs. The code copies one layer, so
    that all layers start with the same weights, and the maps of queries and keys with those of each other. The map of
    the text, the one of the ResNet's size and that of the scores start as PyTorch's.

    Args:
        maps: those of tokens and objects.
        fusion: the modules of the fusion layers in order.
        num_layers: number of fusion layers.
    """
    for module in (maps.types["object"], *fusion):
        for part in module.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        for part in module.modules():
            if isinstance(part, RelationAttention):
                part.key.load_state_dict(part.query.state_dict())
            elif isinstance(part, GatedSum):
                bound = (6 / (part.dst.in_features + part.src.in_features + part.dst.out_features)) ** 0.5
                nn.init.uniform_(part.dst.weight, -bound, bound)
                nn.init.uniform_(part.src.weight, -bound, bound)
    per_layer = len(fusion) // num_layers
    for index, module in enumerate(fusion):
        first = fusion[index % per_layer].state_dict()
        module.load_state_dict({name: first[name] for name in module.state_dict()})


def _residual(config: UMGFVariant, hidden_size: int, dropout: float) -> Callable[[], nn.Module]:
    """Return what makes the module after the gated sums."""
    return partial(AddNorm, hidden_size, dropout) if config.gate_norm else Add


def _shallow_maps(text: int, objects: int, out: int, dropout: float, visual: str) -> dict[str, nn.Module]:
    """Return one linear map with ReLU for tokens; that of the visual nodes is in their encoder."""
    return {"token": nn.Sequential(nn.Linear(text, out), nn.ReLU()), visual: nn.ReLU()}


def _deep_maps(text: int, objects: int, out: int, dropout: float, visual: str) -> dict[str, nn.Module]:
    """Return a linear map for tokens, and two with ReLU and dropout for the visual nodes."""
    steps = [nn.Linear(objects, out), nn.ReLU(), nn.Dropout(dropout)]
    steps += [nn.Linear(out, out), nn.ReLU(), nn.Dropout(dropout)]
    return {"token": nn.Linear(text, out), visual: nn.Sequential(*steps)}
