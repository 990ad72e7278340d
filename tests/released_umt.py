"""Reference implementation of UMT's released code."""

from __future__ import annotations

import torch
import torchcrf
from released import SPANS, TAGS, Layer, added, copy_head_weights
from torch import Tensor, nn

from mnergraph.models import UMT, Tagger

WIDTH, HEADS, HIDDEN, IMAGE = 12, 3, 20, 5


def parts(model: Tagger) -> dict[str, nn.Module]:
    """The layers by what they are and what they write."""
    named = {
        f"{type(part).__name__} {getattr(part, 'task', getattr(part, 'out_key', ''))}".strip(): part
        for part in model.layers
    }
    assert len(named) == len(model.layers)
    return named


class Released(nn.Module):
    """What the released code computes, with its tags in its order."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text
        for name in ("self_attention", "self_attention_v2", "txt2img", "img2txt", "txt2txt"):
            self.add_module(name, Layer(WIDTH, HEADS, HIDDEN))
        self.vismap2text, self.vismap2text_v2 = nn.Linear(IMAGE, WIDTH), nn.Linear(IMAGE, WIDTH)
        self.gate = nn.Linear(2 * WIDTH, WIDTH)
        self.classifier, self.aux_classifier = nn.Linear(2 * WIDTH, 13), nn.Linear(WIDTH, 7)
        self.crf, self.aux_crf = torchcrf.CRF(13, batch_first=True), torchcrf.CRF(7, batch_first=True)
        self.trans_matrix = torch.zeros(7, 13)
        for z, row in {2: (2, 4, 6, 8), 3: (3, 5, 7, 9)}.items():
            self.trans_matrix[z, list(row)] = 0.25
        for z, y in ((0, 0), (1, 1), (4, 10), (5, 11), (6, 12)):
            self.trans_matrix[z, y] = 1.0

    def forward(self, ids: Tensor, mask: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, pieces], [batch, pieces], [batch, 49, image] -> scores of the tags and of the spans."""
        bert = self.text(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        words, image = added(mask), torch.zeros(len(ids), 1, 1, 49)
        aux = self.aux_classifier(self.self_attention(bert, bert, words))
        text = self.self_attention_v2(bert, bert, words)
        cross = self.txt2img(text, self.vismap2text(grid), image)
        to_words = self.txt2txt(text, self.img2txt(self.vismap2text_v2(grid), text, words), image)
        gate = torch.sigmoid(self.gate(torch.cat([to_words, cross], -1)))
        main = self.classifier(torch.cat([to_words, gate * cross], -1))
        return 0.5 * main + 0.5 * (aux @ self.trans_matrix), aux

    def copy_weights_to(self, model: UMT) -> None:
        """Copies these weights into ours, tags and spans in our order."""
        part = parts(model)
        self.self_attention.copy_weights_to(part["TransformerLayer span_states"])
        self.self_attention_v2.copy_weights_to(part["TransformerLayer token"])
        self.txt2img.copy_weights_to(part["TransformerLayer word-aware image"])
        for theirs, ours in zip((self.img2txt, self.txt2txt), part["CoAttention"], strict=True):
            theirs.copy_weights_to(ours)
        part["ImageEncoder image"].linear.load_state_dict(self.vismap2text.state_dict())
        part["ImageEncoder query image"].linear.load_state_dict(self.vismap2text_v2.state_dict())
        gate = part["FeatureModule word-aware image"].module
        gate.a.weight.data, gate.b.weight.data = self.gate.weight.data.split(WIDTH, 1)
        gate.a.bias.data = self.gate.bias.data
        copy_head_weights(model, "tags", part["TaggingScores tags"], TAGS, self.classifier, self.crf)
        copy_head_weights(model, "spans", part["TaggingScores spans"], SPANS, self.aux_classifier, self.aux_crf)
