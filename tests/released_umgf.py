"""Reference implementation of UMGF's released code."""

from __future__ import annotations

import torch
import torchcrf
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.models import UMGF
from mnergraph.models.umgf.model import OBJECTS, TO_OBJECTS, TOKENS

WIDTH, HEADS, REGION_FEATURES = 16, 4, 6


class Released(nn.Module):
    """The computation of the released code as described in PAPERS.md, padded and batch first."""

    def __init__(self, text: nn.Module, wide: int, layers: int, hidden: int, tags: int) -> None:
        super().__init__()
        self.text, self.wide = text, wide
        self.resnet_linear = nn.Linear(REGION_FEATURES, REGION_FEATURES)
        self.trans_txt = nn.Linear(wide, WIDTH)
        self.trans_obj = nn.Sequential(
            nn.Linear(REGION_FEATURES, WIDTH),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
            nn.Dropout(0.4),
        )

        def maps(names: str, inputs: int = WIDTH, outputs: int = WIDTH) -> nn.ModuleDict:
            return nn.ModuleDict({name: nn.Linear(inputs, outputs) for name in names.split()})

        self.stack = nn.ModuleList(
            nn.ModuleDict(
                {
                    "x": maps("q k v o"),
                    "o": maps("q k"),
                    "gate": maps("x o", 2 * WIDTH),
                    "norm": nn.ModuleDict({name: nn.LayerNorm(WIDTH) for name in ("x1", "o1", "x2", "o2", "x3", "o3")}),
                    "in": maps("x o", WIDTH, hidden),
                    "out": maps("x o", hidden, WIDTH),
                }
            )
            for _ in range(layers)
        )
        self.hidden2tag = nn.Linear(wide + WIDTH, tags)
        self.crf = torchcrf.CRF(tags, batch_first=True)

    def forward(self, ids: Tensor, mask: Tensor, crops: Tensor) -> Tensor:
        """[batch, pieces], [batch, pieces], [batch, 4, region] -> emissions [batch, pieces, tags]."""
        bert = self.text(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        x, o = self.trans_txt(bert), self.trans_obj(self.resnet_linear(crops))
        for part in self.stack:
            norm = part["norm"]
            xs = part["x"]
            x = norm["x1"](x + xs["o"](self.heads(xs["q"](x), xs["k"](x), xs["v"](x), mask)))
            o = norm["o1"](o + self.heads(part["o"]["q"](o), part["o"]["k"](o), o, torch.ones(o.shape[:2]) > 0))
            # [batch, pieces, crops, 2 width]
            pairs = torch.cat([x[:, :, None].expand(-1, -1, 4, -1), o[:, None].expand(-1, x.shape[1], -1, -1)], -1)
            to_x, to_o = torch.sigmoid(part["gate"]["x"](pairs)), torch.sigmoid(part["gate"]["o"](pairs))
            sum_x = (to_x * o[:, None]).sum(2)
            sum_o = (to_o * x[:, :, None] * mask[:, :, None, None]).sum(1)
            x, o = norm["x2"](x + sum_x), norm["o2"](o + sum_o)
            x = norm["x3"](x + part["out"]["x"](torch.relu(part["in"]["x"](x))))
            o = norm["o3"](o + part["out"]["o"](torch.relu(part["in"]["o"](o))))
        return self.hidden2tag(torch.cat([bert, x], -1))

    @staticmethod
    def heads(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        def split(t: Tensor) -> Tensor:
            return t.view(*t.shape[:2], HEADS, WIDTH // HEADS).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(split(q), split(k), split(v), attn_mask=mask[:, None, None])
        return mixed.transpose(1, 2).reshape(q.shape)

    def copy_weights_to(self, model: UMGF) -> None:
        """Copies these weights into ours."""

        def copy(ours: nn.Module, theirs: nn.Module) -> None:
            ours.load_state_dict(theirs.state_dict())

        _, _, objects, begin, *layers, emit = model.layers
        copy(objects.region, self.resnet_linear)
        copy(begin.types["token"], self.trans_txt)
        copy(begin.types["object"], self.trans_obj)
        for part, inside, between, alone in zip(self.stack, layers[::3], layers[1::3], layers[2::3], strict=True):
            tokens, objects = (inside.operators[inside.relations.index(key)] for key in (TOKENS, OBJECTS))
            for ours, name in (
                (tokens.query, "q"),
                (tokens.key, "k"),
                (tokens.value, "v"),
                (tokens.output, "o"),
            ):
                copy(ours, part["x"][name])
            copy(objects.query, part["o"]["q"])
            copy(objects.key, part["o"]["k"])
            for key, gates in zip(between.relations, between.operators, strict=True):
                own, other = (slice(0, WIDTH), slice(WIDTH, None))
                linear = part["gate"]["x"]
                if key == TO_OBJECTS:
                    linear, own, other = part["gate"]["o"], other, own
                gates.dst.weight.data = linear.weight.data[:, own].clone()
                gates.src.weight.data = linear.weight.data[:, other].clone()
                gates.dst.bias.data = linear.bias.data.clone()
            for kind in ("token", "object"):
                name = "x" if kind == "token" else "o"
                copy(inside.residual[kind].norm, part["norm"][f"{name}1"])
                if kind not in alone.types:
                    continue
                copy(between.residual[kind].norm, part["norm"][f"{name}2"])
                copy(alone.types[kind].inner, part["in"][name])
                copy(alone.types[kind].outer, part["out"][name])
                copy(alone.types[kind].residual.norm, part["norm"][f"{name}3"])
        copy(emit.linear, self.hidden2tag)
        model.heads["tags"].decoder.load_state_dict(self.crf.state_dict())
