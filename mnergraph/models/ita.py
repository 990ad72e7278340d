"""ITA: "Image-Text Alignments for Multi-Modal Named Entity Recognition".

Wang X., Gui, Jiang, Jia, Bach, Wang T., Huang and Tu, NAACL 2022. Graph: tokens, and context words that reach every
token within the encoder. The image as words, in three ways: local, a detector's labels (``tags``); global, captions
(``caption``); optical, the text in the image (``ocr``).

    emissions = W dropout(encoder([post ; context])),  of every word's first piece; a CRF over the post's words
    L = 0.5 NLL(post, context) + 0.5 sum_i KL(q_i^(1/T) || p_i^(1/T)) + NLL(post)

q_i are the CRF's marginals p(y_i | post, context), without gradient, and p_i those of the post alone, by the same
weights (cross-view alignment, `mnergraph.nn.heads.agreement`). The third term is that of the post-only corpus on which
the authors train as well. A post without context pays the last term and half of the first, which is then the same.

After the released code (Alibaba-NLP/KB-NER), as the paper's body was not available. Ours differs: tags are BIO2 (theirs
are BIOES), the views of one post are in one step (theirs are two corpora), and the text encoder's own dropout is on.
Whole words are dropped, at a rate of 0.1, and nothing else, as in the code; rates: encoder 5e-6, CRF 0.05.
"""

from __future__ import annotations

from torch import Tensor, nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.context import Agreement, Context
from mnergraph.graph.schema import Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores
from mnergraph.nn.layers.hetero import NodeTypeModule

SCHEMA = Schema()
#: Local, global and optical alignment, and the alignment of the two views.
CONTEXT = Context(sources=("tags", "caption", "ocr"), agreement=Agreement(weight=0.5, text_weight=1.0, temperature=2.0))


class WordDropout(nn.Module):
    """Zero all features of some nodes in training, without scaling the others (flair's word dropout).

    Args:
        p: the share of nodes.
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"a share of {p} of the words; right is from 0 to below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """``[nodes, hidden_size]`` -> the same shape."""
        if not self.training or not self.p:
            return x
        return x * x.new_empty(len(x), 1).bernoulli_(1 - self.p)


class ITA(Tagger):
    """Image-text alignments: the image as words, and two views that agree (Wang et al., NAACL 2022).

    Args:
        encoder: text encoder.
        labels: label set.
        context: the texts that it reads, and the agreement with the view without them: temperature 2, as on
            Twitter-2017; the authors' is 4 on Twitter-2015.
        dropout: the share of words whose features are zero in training.
    """

    def __init__(
        self, encoder: TextEncoderModel, labels: LabelSet, *, context: Context | None = CONTEXT, dropout: float = 0.1
    ) -> None:
        super().__init__(
            schema=SCHEMA,
            layers=[
                TextEncoder(encoder),
                NodeTypeModule({"token": WordDropout(dropout)}),
                TaggingScores(TAGS, encoder.hidden_size, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels, weight=0.5)],
            encoder=encoder,
            labels=labels,
            context=context,
        )
