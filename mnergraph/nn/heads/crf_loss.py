"""The log-likelihood of a linear chain with its own gradient, by scaled probabilities where that is safe.

Probabilities, rescaled to sum 1 every few steps (Rabiner, 1989, section V.A), take a third of the time of log space. A
label whose probability falls below exp(-745) underflows, which matters only if a later score can make up for it.
Where every label may follow every other, the best label at a step can be followed by whatever follows the underflown
one, for the difference between two transitions. Where BIO2 forbids some transitions, it can by way of ``B-T``, for
the emissions of one more token. So if all these differences are below ``SAFE_SCORE_RANGE``, a step reduces the sum by
a factor of exp(-60) at most, products of messages stay above exp(-600), and an underflown label remains negligible.
Other scores are computed in log space (`forward_backward.messages`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mnergraph.nn.heads.forward_backward import MINUS_INFINITY, Chain, Messages, messages

#: Scaled probabilities are safe where transitions, and emissions of one token if transitions are forbidden, differ by
#: less.
SAFE_SCORE_RANGE = 30.0

#: Number of steps from one rescaling to the next.
RESCALING_INTERVAL = 4


class ScaledMessages(NamedTuple):
    """Forward and backward messages as probabilities, each step of a post up to a factor.

    Attributes:
        alpha: as in `Messages`, but not a logarithm; `beta_with_emission` and `beta`, too.
        pair_sums: ``[steps, posts]``, the sum over all pairs of labels at the step before and this one.
        transitions: ``[labels, labels]``, exponentiated.
        log_z: the log partition function, ``[posts]``.
    """

    alpha: Tensor
    beta_with_emission: Tensor
    beta: Tensor
    pair_sums: Tensor
    transitions: Tensor
    log_z: Tensor

    def marginals(self) -> Tensor:
        """Return p(y_t), ``[steps, labels, posts]``."""
        joint = self.alpha * self.beta
        return joint.div_(joint.sum(1, keepdim=True))

    def pairwise_marginals(self, weights: Tensor) -> Tensor:
        """Return the sum of p(y_t-1 = i, y_t = j) weighted by ``[steps, posts]``, as ``[labels, labels]``."""
        scale = torch.where(weights == 0, 0.0, weights / self.pair_sums)
        after = self.beta_with_emission[1:] * scale[1:, None]
        return torch.einsum("tis,tjs->ij", self.alpha[:-1], after) * self.transitions


def scaled_messages(chain: Chain) -> ScaledMessages:
    """Return the messages by the scaled recursions, valid within `SAFE_SCORE_RANGE`.

    alpha[t, j] = exp(emissions[t, j]) sum_i alpha[t-1, i] exp(transitions[i, j]) / scale[t]
    """
    emissions, reverse = chain.bidirectional_emissions()
    maxima = chain.emissions.amax(1)
    weights = (emissions - emissions.amax(2, keepdim=True)).exp_()
    shifts = [scores.max() for scores in (chain.start, chain.end, chain.transitions)]
    start, end, transitions = ((s - shift).exp() for s, shift in zip(chain[1:4], shifts, strict=True))
    # [2, to, from]
    step_matrices = torch.stack([transitions.T, transitions])
    # [steps, 2, labels, posts], without and with the emission of their own step
    without_own, with_own = torch.empty_like(emissions), torch.empty_like(emissions)
    # [steps, 2, 1, posts]
    scales = torch.ones_like(with_own[:, :, :1])
    without_own[0] = torch.stack([start, end])[..., None]
    torch.mul(without_own[0], weights[0], out=with_own[0])
    before, *later = with_own.unbind()
    steps = zip(without_own[1:].unbind(), weights[1:].unbind(), later, strict=True)
    for index, (step, weight, result) in enumerate(steps, 1):
        torch.bmm(step_matrices, before, out=step)
        before = torch.mul(step, weight, out=result)
        if index % RESCALING_INTERVAL == 0:
            result.div_(torch.sum(result, 1, keepdim=True, out=scales[index]))
    alpha, beta = with_own[:, 0], without_own[:, 1].gather(0, reverse)
    beta_with_emission = with_own[:, 1].gather(0, reverse)
    lengths = chain.mask.sum(0)
    last = (lengths - 1).clamp(min=0).expand(1, alpha.size(1), -1)
    log_z = torch.where(chain.mask, scales[:, 0, 0].log() + maxima, 0.0).sum(0)
    log_z += (alpha.gather(0, last)[0] * end[:, None]).sum(0).log() + shifts[0] + shifts[1]
    log_z += shifts[2] * (lengths - 1)
    pair_sums = (without_own[:, 0] * beta_with_emission).sum(1)
    return ScaledMessages(alpha, beta_with_emission, beta, pair_sums, transitions, log_z)


class LogLikelihood(torch.autograd.Function):
    """log p(tags) of every post, with its own gradient: observed minus expected counts.

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
        scaled: bool,
    ) -> Tensor:
        """Emissions ``[posts, steps, labels]``, tags and mask ``[posts, steps]`` -> ``[posts]``.

        With ``scaled``, by scaled probabilities; else in log space.
        """
        chain = Chain.from_scores(emissions, start, end, transitions, mask)
        sums = scaled_messages(chain) if scaled else messages(chain)
        # [steps, posts]
        gold = tags.masked_fill(~mask, 0).T
        last = (chain.mask.sum(0, keepdim=True) - 1).clamp(min=0)
        score = chain.emissions.gather(1, gold[:, None])[:, 0].mul(chain.mask).sum(0)
        score += chain.transitions[gold[:-1], gold[1:]].mul(chain.mask[1:]).sum(0)
        score += chain.start[gold[0]] + chain.end[gold.gather(0, last)[0]]
        ctx.save_for_backward(chain.mask, gold, last, *sums)
        ctx.message_type = type(sums)
        ctx.dtypes = [scores.dtype for scores in (emissions, start, end, transitions)]
        # an empty row has one label sequence, of probability 1
        result = torch.where(chain.mask[0], score - sums.log_z, 0.0)
        result = torch.where(result > MINUS_INFINITY / 2, result, -torch.inf)
        return result.to(torch.promote_types(emissions.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient ``[posts]`` -> gradients of emissions, start, end and transitions."""
        mask, gold, last, *parts = ctx.saved_tensors
        sums: Messages | ScaledMessages = ctx.message_type(*parts)
        # [steps, posts]
        weights = mask * gradient.double()
        # [steps, labels, posts]
        observed = torch.zeros_like(sums.alpha).scatter_(1, gold[:, None], 1.0)
        nodes = torch.where(mask[:, None], (observed - sums.marginals()) * weights[:, None], 0.0)
        # [labels, labels]
        pairs = torch.einsum("tis,tjs->ij", observed[:-1], observed[1:] * weights[1:, None])
        pairs -= sums.pairwise_marginals(weights)
        ends = nodes.gather(0, last[:, None].expand(-1, nodes.size(1), -1))
        gradients = (nodes.permute(2, 0, 1), nodes[0].sum(-1), ends[0].sum(-1), pairs)
        cast = (part.to(dtype) for part, dtype in zip(gradients, ctx.dtypes, strict=True))
        return (*cast, None, None, None)
