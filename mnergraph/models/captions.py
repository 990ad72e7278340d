"""Captions: the image as one more sentence (Chen, Aguilar, Neves and Solorio, W-NUT 2021).

"Can images help recognize entities? A study of the role of images for Multimodal NER", the arm in which BERT reads the
image's caption. Graph: tokens, and context words that reach every token within the encoder.

    [CLS] w_1 ... w_M [SEP] c_1 ... c_K [SEP],  segment 0 for the post and 1 for the caption
    emissions = W BERT(...) of every word's first piece,  a CRF over the post's words

After the released code, as the paper's body was not available. It differs from ours in three points, which we leave:
a word's further pieces and [CLS] carry the first label of the list, a real tag, in the loss; the code's CRF stops after
the first [SEP], as ours does, but begins with [CLS]; and it scores the argmax of the emissions, with Viterbi commented
out, so that its CRF shapes the loss alone (``decoding="emissions"`` does so). Captions come as files; which captioner
wrote them is not in the repository.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.context import Context
from mnergraph.graph.schema import Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.heads.checks import check_inputs
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores

SCHEMA = Schema()
CONTEXT = Context(sources=("caption",), budget=64)


class EmissionDecodedCRF(CRF):
    """A CRF that shapes the loss, where tags are decoded from the emissions alone, as the released code does.

    Probabilities of spans are the CRF's.
    """

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return the tag of the highest emission of every token, ``[posts, max tokens]``, int64; 0 in padding."""
        check_inputs(emissions, mask, self.tags, parameters=list(self.parameters()))
        return emissions.argmax(-1).masked_fill(~mask, 0)


class Captions(Tagger):
    """A text encoder that reads the image's caption beside the post, and a CRF (Chen et al., W-NUT 2021).

    Args:
        encoder: text encoder.
        labels: label set.
        context: the texts that it reads, the caption; of at most 64 word pieces.
        dropout: on the words' states.
        decoding: tags by the CRF's best path, or by the highest emissions, as the released code does.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        context: Context | None = CONTEXT,
        dropout: float = 0.1,
        decoding: Literal["viterbi", "emissions"] = "viterbi",
    ) -> None:
        if decoding not in ("viterbi", "emissions"):
            raise ValueError(f"decoding is viterbi or emissions, not {decoding!r}")
        crf = CRF if decoding == "viterbi" else EmissionDecodedCRF
        super().__init__(
            schema=SCHEMA,
            layers=[
                TextEncoder(encoder, dropout=dropout),
                TaggingScores(TAGS, encoder.hidden_size, len(labels)),
            ],
            heads=[TaggingHead(crf(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
            context=context,
        )
