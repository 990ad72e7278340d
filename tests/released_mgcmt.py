"""Reference implementation of MGCMT's released code."""

from __future__ import annotations

import torch
import torchcrf
from released import SPANS, TAGS, Layer, added, copy_head_weights
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.models import MGCMT, Tagger
from mnergraph.nn.layers.transformer import CoAttention

WIDTH, HEADS, HIDDEN, IMAGE, VECTOR = 12, 3, 20, 5, 4


def parts(model: Tagger) -> dict[str, nn.Module]:
    """The layers by what they are and what they write."""
    named = {}
    for part in model.layers:
        last = part[-1] if isinstance(part, CoAttention) else part
        wrote = next((getattr(last, key) for key in ("task", "out_key") if hasattr(last, key)), "")
        # a path's levels write for themselves where there are two
        wrote = wrote.split(",")[0] if wrote.startswith("Text") else wrote
        named[f"{type(part).__name__} {wrote}".strip()] = part
    assert len(named) == len(model.layers)
    return named


class Released(nn.Module):
    """What the released code computes, its object ids padded with 0 to a fixed number."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text
        self.object_embeddings = nn.Embedding(85, WIDTH)
        self.maug_linear = nn.Linear(VECTOR, WIDTH)
        self.vismap2text, self.vismap2text_v2 = nn.Linear(IMAGE, WIDTH), nn.Linear(IMAGE, WIDTH)
        for name in (
            *("self_attention", "self_attention_v2", "img2img", "img2img_v2", "obj2obj", "obj2obj_v2"),
            *("txt2img", "img2txt", "txt2txt", "txt2obj", "obj2txt", "txt2obj_v2"),
        ):
            self.add_module(name, Layer(WIDTH, HEADS, HIDDEN))
        for name in ("fus1", "fus2"):
            self.register_parameter(f"{name}_w1", nn.Parameter(torch.empty(WIDTH, WIDTH)))
            self.register_parameter(f"{name}_w2", nn.Parameter(torch.empty(WIDTH, WIDTH)))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.empty(WIDTH)))
        self.fus3_linear = nn.Linear(2 * WIDTH, WIDTH)
        self.fusion_w = nn.Parameter(torch.empty(2 * WIDTH, WIDTH))
        self.fusion_bias = nn.Parameter(torch.empty(WIDTH))
        self.classifier, self.aux_classifier = nn.Linear(WIDTH, 13), nn.Linear(WIDTH, 7)
        self.crf, self.aux_crf = torchcrf.CRF(13, batch_first=True), torchcrf.CRF(7, batch_first=True)

    def forward(
        self, ids: Tensor, mask: Tensor, augmentation: Tensor, grid: Tensor, objects: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[batch, pieces] twice, [batch, pieces, vector], [batch, 49, image], [batch, objects] -> scores."""
        bert = self.text(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        sequence = bert + self.maug_linear(augmentation)
        words, image, object_mask = added(mask), torch.zeros(len(ids), 1, 1, 49), added(objects != 0)
        aux = self.aux_classifier(self.self_attention(sequence, sequence, words))
        main = self.self_attention_v2(sequence, sequence, words)

        grid_1, grid_2 = self.vismap2text(grid), self.vismap2text_v2(grid)
        grid_1, grid_2 = self.img2img(grid_1, grid_1, image), self.img2img_v2(grid_2, grid_2, image)
        cross = self.txt2img(main, grid_1, image)
        final = self.txt2txt(main, self.img2txt(grid_2, main, words), image)
        embedded = self.object_embeddings(objects)
        attended_1 = self.obj2obj(embedded, embedded, object_mask)
        attended_2 = self.obj2obj_v2(embedded, embedded, object_mask)
        object_1 = self.txt2obj(main, attended_1, object_mask)
        object_2 = self.txt2obj_v2(main, self.obj2txt(attended_2, main, words), object_mask)

        gate_1 = torch.sigmoid(cross @ self.fus1_w1.t() + final @ self.fus1_w2.t() + self.fus1_bias)
        gate_2 = torch.sigmoid(object_2 @ self.fus2_w1.t() + object_1 @ self.fus2_w2.t() + self.fus2_bias)
        mixed = gate_1 * cross + (1 - gate_1) * final, gate_2 * object_2 + (1 - gate_2) * object_1
        fused = F.relu(self.fus3_linear(torch.cat(mixed, -1)))
        last = torch.cat([main, fused], -1) @ self.fusion_w + self.fusion_bias
        return self.classifier(last), aux

    def copy_weights_to(self, model: MGCMT) -> None:
        """Copies these weights into ours."""
        part = parts(model)
        for ours, theirs in {
            "TransformerLayer span_states": self.self_attention,
            "TransformerLayer token": self.self_attention_v2,
            "TransformerLayer image, basic": self.img2img,
            "TransformerLayer image, superior": self.img2img_v2,
            "TransformerLayer object, basic": self.obj2obj,
            "TransformerLayer object, superior": self.obj2obj_v2,
            "TransformerLayer TextImg": self.txt2img,
            "TransformerLayer TextObj": self.txt2obj,
        }.items():
            theirs.copy_weights_to(part[ours])
        self.img2txt.copy_weights_to(part["CoAttention TextImg"][0])
        self.txt2txt.copy_weights_to(part["CoAttention TextImg"][1])
        self.obj2txt.copy_weights_to(part["CoAttention TextObj"][0])
        self.txt2obj_v2.copy_weights_to(part["CoAttention TextObj"][1])
        for linear, theirs in (
            (part["HeteroLayer"].residual["token"].linear, self.maug_linear),
            (part["ImageEncoder image, basic"].linear, self.vismap2text),
            (part["ImageEncoder image, superior"].linear, self.vismap2text_v2),
            (part["FeatureModule fused"].module.module[1], self.fus3_linear),
        ):
            linear.load_state_dict(theirs.state_dict())
        # their rows 81 to 84 are unused, our row 81 is for labels that are not in COCO
        part["ObjectClasses"].table.weight.data[:81] = self.object_embeddings.weight.data[:81]
        for name, out in (("fus1", "TextImg"), ("fus2", "TextObj")):
            gate = part[f"FeatureModule {out}"].module
            gate.a.weight.data, gate.b.weight.data = (getattr(self, f"{name}_{w}").data for w in ("w1", "w2"))
            gate.a.bias.data = getattr(self, f"{name}_bias").data
        last = part["FeatureModule token"].module.module
        last.weight.data, last.bias.data = self.fusion_w.data.t().clone(), self.fusion_bias.data
        copy_head_weights(model, "tags", part["TaggingScores tags"], TAGS, self.classifier, self.crf)
        copy_head_weights(model, "spans", part["TaggingScores spans"], SPANS, self.aux_classifier, self.aux_crf)
