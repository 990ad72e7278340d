"""How words hear a visual side on two levels: what it shows at once, and what it shows of what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from torch import nn

from mnergraph.graph import EdgeType
from mnergraph.nn.blocks import ThereAndBack, Transformers
from mnergraph.nn.fusion import Apply
from mnergraph.nn.gates import Highway

Level = Literal["basic", "superior"]
LEVELS: tuple[Level, Level] = ("basic", "superior")


def path_relations(kind: str) -> tuple[EdgeType, EdgeType, EdgeType]:
    """The relations of a path: among the nodes of its visual side, from them to words, from words to them."""
    return (kind, "attends", kind), (kind, "guides", "token"), ("token", "guides", kind)


def cross_modal_path(
    kind: str,
    sides: Mapping[Level, str],
    transformers: Transformers,
    *,
    out: str,
    unimodal: bool = True,
    separate: bool = False,
    weighed: Level = "basic",
) -> Iterator[nn.Module]:
    """MGCMT's TextImg or TextObj (sections 3.2.4 and 3.3), from a visual side to S_v or S_o.

    V = self-attention of the visual side;  S_1 = words query V (basic level);  S_2 = words query what V heard
    of them (superior level), each a transformer layer (eqs. 9-12);  out = mu * S_1 + (1 - mu) * S_2 (eq. 14),
    mu = sigmoid(W_1 S_1 + W_2 S_2 + b) (eq. 13). One level alone has no gate, as in the released code.

    Args:
        kind: node type of the visual side.
        sides: the levels there are, one or both, and for each by which name its visual side is kept.
        transformers: makes the layers.
        out: under which name the result is kept.
        unimodal: whether the visual side has self-attention.
        separate: whether it has one for each level, as in the authors' code.
        weighed: the level whose weight mu is; the other has the rest.
    """
    within, to_words, from_words = path_relations(kind)
    heard = dict(sides)
    if unimodal:
        heard = {level: f"{kind}, {level}" if separate else kind for level in sides}
        for before, after in dict.fromkeys((sides[level], heard[level]) for level in sides):
            yield transformers.block(within, dst=before, src=before, out=after)
    found = {level: f"{out}, {level}" if len(sides) == 2 else out for level in sides}
    if "basic" in sides:
        yield transformers.block(to_words, src=heard["basic"], out=found["basic"])
    if "superior" in sides:
        names = {"other": heard["superior"], "out": found["superior"]}
        yield ThereAndBack(from_words, to_words, transformers, **names)
    if len(sides) == 2:
        read = sorted(found, key=lambda level: level != weighed)
        yield Apply(Highway(transformers.width, bias=True), read=[found[level] for level in read], write=out)
