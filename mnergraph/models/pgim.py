"""PGIM: "Prompting ChatGPT in MNER: Enhanced Multimodal Named Entity Recognition with Auxiliary Refined Knowledge".

Li J., Li H., Pan Z., Sun, Wang J., Zhang W. and Pan G., Findings of EMNLP 2023. Graph: tokens, and context words that
reach every token within the encoder. The context is ``knowledge``: what a language model wrote about the post, given
its words and its image's caption.

    emissions = W dropout(encoder([post ; knowledge])),  of every word's first piece; a CRF over the post's words

After the released code's second stage, as the paper's body was not available. The first stage, which writes the
knowledge, is not in here: it comes from context.jsonl, or from an extractor. The release does not cut the knowledge off
before the CRF: loss, decoding and scores run over its words too, all of them gold O. Ours are of the post's words. Tags
are BIO2 where theirs are BIOES. The authors take XLM-R large, so their figures do not compare to those of systems over
BERT.
"""

from __future__ import annotations

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.context import Context
from mnergraph.labels import LabelSet
from mnergraph.models.text_only import BERTCRF

CONTEXT = Context(sources=("knowledge",))


class PGIM(BERTCRF):
    """A text encoder that reads a language model's knowledge beside the post, and a CRF (Li et al., EMNLP 2023).

    Args:
        encoder: text encoder.
        labels: label set.
        context: the texts that it reads, the knowledge; of at most 160 word pieces.
        dropout: on the words' states; the authors' is 0.1 on Twitter-2015 and 0.3 on Twitter-2017.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        context: Context | None = CONTEXT,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(encoder, labels, dropout=dropout, context=context)
