"""The log-likelihood of a linear chain with its own gradient, by probabilities where that is safe.

Probabilities, scaled back to sum 1 every few steps (Rabiner, 1989, section V.A), need a third of the time of
log space. They lose a label that falls below exp(-745), which matters only if a later score can make up for
it. Where every label may follow every other, the best label at a step can take over the future of a lost one
for the difference between two transitions. Where BIO2 forbids some, it can do so by way of ``B-T``, at the
cost of one more word's emissions. So with all these differences under ``GENTLE`` a step shrinks the sum by
exp(-60) at most, products of messages stay above exp(-600), and what is lost cannot come back. Other scores
go through log space (``crf_math.messages``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mnergraph.nn.heads.forward_backward import FLOOR, Chain, Messages, messages

#: Transitions (and emissions of one word, where transitions are forbidden) that differ by less are safe.
GENTLE = 30.0


#: Steps from one scaling to the next.
EVERY = 4


class ScaledMessages(NamedTuple):
    """What ``Messages`` are, as probabilities: each step of a sentence has a scale of its own.

    overlap: [slots, sentences], what the pairs of labels at the step before and this one sum to.
    """

    left: Tensor
    ahead: Tensor
    right: Tensor
    overlap: Tensor
    transitions: Tensor
    log_z: Tensor

    def marginals(self) -> Tensor:
        """p(y_t) as [slots, labels, sentences]."""
        joint = self.left * self.right
        return joint.div_(joint.sum(1, keepdim=True))

    def pairwise_marginals(self, weights: Tensor) -> Tensor:
        """Weighted sum of p(y_t-1 = i, y_t = j) over [slots, sentences], as [labels, labels]; 0 in slot 0."""
        scale = torch.where(weights == 0, 0.0, weights / self.overlap)
        after = self.ahead[1:] * scale[1:, None]
        return torch.einsum("tis,tjs->ij", self.left[:-1], after) * self.transitions


def scaled_messages(chain: Chain) -> ScaledMessages:
    """alpha and beta by the scaled recursions, right for gentle scores.

    alpha[t, j] = exp(emissions[t, j]) sum_i alpha[t-1, i] exp(transitions[i, j]) / scale[t]
    """
    emissions, turned = chain.both_ways()
    tops = chain.emissions.amax(1)
    weights = (emissions - emissions.amax(2, keepdim=True)).exp_()
    shifts = [scores.max() for scores in (chain.start, chain.end, chain.transitions)]
    start, end, transitions = ((s - top).exp() for s, top in zip(chain[1:4], shifts, strict=True))
    # [2, to, from]
    move = torch.stack([transitions.T, transitions])
    # [slots, 2, labels, sentences]: without the emission of their own step, and with it
    bare, full = torch.empty_like(emissions), torch.empty_like(emissions)
    # [slots, 2, 1, sentences]
    scales = torch.ones_like(full[:, :, :1])
    bare[0] = torch.stack([start, end])[..., None]
    torch.mul(bare[0], weights[0], out=full[0])
    before, *later = full.unbind()
    steps = zip(bare[1:].unbind(), weights[1:].unbind(), later, strict=True)
    for place, (step, weight, here) in enumerate(steps, 1):
        torch.bmm(move, before, out=step)
        before = torch.mul(step, weight, out=here)
        if place % EVERY == 0:
            here.div_(torch.sum(here, 1, keepdim=True, out=scales[place]))
    left, right, ahead = full[:, 0], bare[:, 1].gather(0, turned), full[:, 1].gather(0, turned)
    lengths = chain.mask.sum(0)
    last = (lengths - 1).clamp(min=0).expand(1, left.size(1), -1)
    log_z = torch.where(chain.mask, scales[:, 0, 0].log() + tops, 0.0).sum(0)
    log_z += (left.gather(0, last)[0] * end[:, None]).sum(0).log() + shifts[0] + shifts[1]
    log_z += shifts[2] * (lengths - 1)
    overlap = (bare[:, 0] * ahead).sum(1)
    return ScaledMessages(left, ahead, right, overlap, transitions, log_z)


class LogLikelihood(torch.autograd.Function):
    """log p(tags) per sentence, with its own gradient: what the tags count minus what is expected.

    d log p / d emissions[t, k]   = [y_t = k] - p(y_t = k)
    d log p / d transitions[i, j] = sum_t [y_t = i, y_t+1 = j] - p(y_t = i, y_t+1 = j)
    """

    @staticmethod
    def forward(
        ctx: Any,
        emissions: Tensor,
        start: Tensor,
        end: Tensor,
        transitions: Tensor,
        tags: Tensor,
        mask: Tensor,
        gentle: bool,
    ) -> Tensor:
        """Emissions [sentences, slots, labels], tags and mask [sentences, slots] -> [sentences]."""
        chain = Chain.from_scores(emissions, start, end, transitions, mask)
        found = scaled_messages(chain) if gentle else messages(chain)
        # [slots, sentences]
        gold = tags.masked_fill(~mask, 0).T
        last = (chain.mask.sum(0, keepdim=True) - 1).clamp(min=0)
        score = chain.emissions.gather(1, gold[:, None])[:, 0].mul(chain.mask).sum(0)
        score += chain.transitions[gold[:-1], gold[1:]].mul(chain.mask[1:]).sum(0)
        score += chain.start[gold[0]] + chain.end[gold.gather(0, last)[0]]
        ctx.save_for_backward(chain.mask, gold, last, *found)
        ctx.kind = type(found)
        ctx.dtypes = [scores.dtype for scores in (emissions, start, end, transitions)]
        # a row of no words has one labelling, of probability 1
        result = torch.where(chain.mask[0], score - found.log_z, 0.0)
        result = torch.where(result > FLOOR / 2, result, -torch.inf)
        return result.to(torch.promote_types(emissions.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient [sentences] -> gradients of the four kinds of scores."""
        mask, gold, last, *parts = ctx.saved_tensors
        found: Messages | ScaledMessages = ctx.kind(*parts)
        # [slots, sentences]
        weights = mask * gradient.double()
        # [slots, labels, sentences]
        counted = torch.zeros_like(found.left).scatter_(1, gold[:, None], 1.0)
        nodes = torch.where(mask[:, None], (counted - found.marginals()) * weights[:, None], 0.0)
        # [labels, labels]
        pairs = torch.einsum("tis,tjs->ij", counted[:-1], counted[1:] * weights[1:, None])
        pairs -= found.pairwise_marginals(weights)
        ends = nodes.gather(0, last[:, None].expand(-1, nodes.size(1), -1))
        gradients = (nodes.permute(2, 0, 1), nodes[0].sum(-1), ends[0].sum(-1), pairs)
        cast = (part.to(dtype) for part, dtype in zip(gradients, ctx.dtypes, strict=True))
        return (*cast, None, None, None)
