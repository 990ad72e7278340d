"""ATTR-MMKG-MNER: "Multimodal Named Entity Recognition with Image Attributes and Image Knowledge".

Chen D., Li Z., Gu B. and Chen Z., DASFAA 2021. **Only the abstract and the figures were available, and no code**: that
the image's attributes (class names that a network pretrained on ImageNet gives), its knowledge (entries of a multimodal
knowledge graph) and its map of regions all inform the words is the paper's; how they do is our choice.

Graph: tokens; the attributes as objects with a label alone; the image as a grid; context words of the knowledge
entries. Each of the last three reaches every token.

    h_t = BiLSTM([word vector ; char LSTM])
    a_t, k_t, r_t = additive attention of word t to the attributes, to the words of the knowledge, to the regions
    v_t = a_t + k_t + r_t,   g_t = sigmoid(W_h h_t + W_v v_t + b)
    a CRF over [h_t ; g_t * v_t]

Chosen as well: attributes are the labels of a post's first five objects; a knowledge entry's words are vectors of the
same table as the post's (over a pretrained encoder its states, in one sequence with the post); sizes and dropout of
GVATT-HBiLSTM-CRF (`mnergraph.models.gvatt`). What a post lacks contributes nothing.
"""

from __future__ import annotations

from torch import Tensor, nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_embeddings import WordVectors
from mnergraph.graph.context import CONTEXT, CONTEXT_TO_TOKENS, Context
from mnergraph.graph.edge_rules import Complete
from mnergraph.graph.node_types import Images, Objects, Tokens
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.nn.conv.additive_attention import AdditiveAttention
from mnergraph.nn.encoders.characters import CharacterLSTM
from mnergraph.nn.encoders.visual import ImageEncoder, ObjectEncoder
from mnergraph.nn.encoders.word_vectors import word_encoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores
from mnergraph.nn.layers.gates import VisualGate
from mnergraph.nn.layers.hetero import FeatureModule, NodeTypeModule, RelationModule

FROM_IMAGE, FROM_ATTRIBUTES = ("image", "shows", "token"), ("object", "describes", "token")
SCHEMA = Schema([Relation(*FROM_ATTRIBUTES, Complete()), Relation(*FROM_IMAGE, Complete())])
KNOWLEDGE = Context(sources=("knowledge",), budget=64)
#: How many attributes of an image are read.
MAX_ATTRIBUTES = 5
#: Names of the words' features a, k, r, v and g * v.
ATTRIBUTES, ENTRIES, REGIONS, VISUAL, GATED = "attributes", "knowledge", "regions", "visual", "gated visual"


class Sum(nn.Module):
    """The sum of several features of the same nodes."""

    def forward(self, *features: Tensor) -> Tensor:
        """``[nodes, hidden_size]`` each -> ``[nodes, hidden_size]``."""
        total = features[0]
        for x in features[1:]:
            total = total + x
        return total


class ATTRMMKGMNER(Tagger):
    """Image attributes, image regions and knowledge attended by every word (Chen D. et al., DASFAA 2021).

    Args:
        encoder: word vectors, as in the paper, or a pretrained encoder.
        labels: label set.
        image_dim: dimension of the image features (2048 for a ResNet-152).
        hidden_size: of the LSTM over words, for each direction.
        char_dim: dimension of a character's embedding.
        char_hidden_size: of the LSTM over characters, for each direction.
        attention_size: of the hidden layers that score attributes, regions and knowledge.
        dropout: on the LSTM's input and on the words' states; by default 0.5, or 0.1 over a pretrained encoder.
        context: the knowledge entries; None for attributes and regions alone.
    """

    def __init__(
        self,
        encoder: TextEncoderModel | WordVectors,
        labels: LabelSet,
        *,
        image_dim: int = 2048,
        hidden_size: int = 100,
        char_dim: int = 25,
        char_hidden_size: int = 25,
        attention_size: int = 100,
        dropout: float | None = None,
        context: Context | None = KNOWLEDGE,
    ) -> None:
        characters = CharacterLSTM(char_dim, char_hidden_size)
        words, width = word_encoder(encoder, hidden_size, character_encoder=characters, dropout=dropout)
        sources = {ATTRIBUTES: FROM_ATTRIBUTES, REGIONS: FROM_IMAGE}
        layers = [
            *words,
            ObjectEncoder(width, label_dim=encoder.hidden_size),
            ImageEncoder(width, image_dim),
        ]
        if context is not None:
            sources[ENTRIES] = CONTEXT_TO_TOKENS
            layers.append(NodeTypeModule({CONTEXT: nn.Linear(encoder.hidden_size, width)}))
        layers += [
            RelationModule(relation, AdditiveAttention(width, attention_size), out_key=key)
            for key, relation in sources.items()
        ]
        super().__init__(
            schema=SCHEMA,
            layers=[
                *layers,
                FeatureModule(Sum(), in_keys=tuple(sources), out_key=VISUAL),
                FeatureModule(VisualGate(width, bias=True), in_keys=("token", VISUAL), out_key=GATED),
                TaggingScores(TAGS, 2 * width, len(labels), in_keys=("token", GATED)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
            context=context,
            node_types=[
                Tokens(encoder.tokenizer, labels, characters=encoder.characters),
                Objects(encoder.tokenizer, max_objects=MAX_ATTRIBUTES),
                Images(image_dim, grid=True),
            ],
        )
