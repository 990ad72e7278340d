"""Forward-backward and Viterbi recursions over the label sequences of a linear chain.

    score(y) = start[y_1] + sum_t emissions[t, y_t] + sum_t transitions[y_t, y_t+1] + end[y_n]
    log p(y) = score(y) - log Z,   Z = sum over all y of exp score(y)

Lafferty, McCallum and Pereira, "Conditional Random Fields", ICML 2001, sections 3 and 4.

Sums are float64. The forward and the backward recursion run in the same loop: for the latter every row is reversed
within its own length, so that both start at step 0 and no step needs a mask.

Axes: *steps*, tokens of the longest post; *posts*, last, as it is the longest.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Replaces minus infinity, so that sums and differences are never NaN.
MINUS_INFINITY = -1e30


class Chain(NamedTuple):
    """The scores of a batch of linear chains, float64.

    Attributes:
        emissions: ``[steps, labels, posts]``, zeros in padding.
        start: scores of first labels, ``[labels]``.
        end: scores of last labels, ``[labels]``.
        transitions: ``[labels, labels]``, from row to column.
        mask: ``[steps, posts]``, bool, at least one step.
    """

    emissions: Tensor
    start: Tensor
    end: Tensor
    transitions: Tensor
    mask: Tensor

    @classmethod
    def from_scores(cls, emissions: Tensor, start: Tensor, end: Tensor, transitions: Tensor, mask: Tensor) -> Chain:
        """Return the chain of emissions ``[posts, steps, labels]``, floating point, and a mask ``[posts, steps]``."""
        emissions, start, end, transitions = (
            scores.double().clamp(min=MINUS_INFINITY) for scores in (emissions, start, end, transitions)
        )
        emissions = emissions.masked_fill(~mask[..., None], 0.0).permute(1, 2, 0).contiguous()
        return cls(emissions, start, end, transitions, mask.T)

    def bidirectional_emissions(self) -> tuple[Tensor, Tensor]:
        """Return the emissions in both directions, and the index that reverses each row within its length.

        Returns:
            emissions, forward and reversed, ``[steps, 2, labels, posts]``; and the index, ``[steps, labels, posts]``.
        """
        steps = torch.arange(len(self.mask), device=self.mask.device)[:, None]
        reverse = (self.mask.sum(0) - 1 - steps).clamp(min=0)[:, None].expand_as(self.emissions)
        return torch.stack([self.emissions, self.emissions.gather(0, reverse)], 1), reverse


class Messages(NamedTuple):
    """Forward and backward messages of a chain, as logarithms.

    Attributes:
        alpha: ``[steps, labels, posts]``, sum over the sequences up to a label, its own emission included.
        beta_with_emission: ``[steps, labels, posts]``, sum over the sequences from a label on, its own emission
            included.
        beta: ``[steps, labels, posts]``, the same without its own emission.
        transitions: ``[labels, labels]``.
        log_z: the log partition function, ``[posts]``.
    """

    alpha: Tensor
    beta_with_emission: Tensor
    beta: Tensor
    transitions: Tensor
    log_z: Tensor

    def marginals(self) -> Tensor:
        """Return p(y_t), ``[steps, labels, posts]``."""
        return (self.alpha + self.beta).softmax(1)

    def pairwise_marginals(self, weights: Tensor) -> Tensor:
        """Return the sum of p(y_t-1 = i, y_t = j) weighted by ``[steps, posts]``, as ``[labels, labels]``."""
        # [steps - 1, from, 1, posts] and [steps - 1, 1, to, posts]
        before = (self.alpha[:-1] - self.log_z)[:, :, None]
        after = self.beta_with_emission[1:].masked_fill(weights[1:, None] == 0, -torch.inf)[:, None]
        return torch.einsum("tijs,ts->ij", (before + after + self.transitions[..., None]).exp_(), weights[1:])


def messages(chain: Chain) -> Messages:
    """Return the messages by the forward-backward recursions in log space, valid for any scores.

    alpha[t, j] = emissions[t, j] + log sum_i exp(alpha[t-1, i] + transitions[i, j])
    beta[t, i]  = log sum_j exp(transitions[i, j] + emissions[t+1, j] + beta[t+1, j])
    """
    emissions, reverse = chain.bidirectional_emissions()
    # [from, 2, to, 1]
    transitions = torch.stack([chain.transitions, chain.transitions.T], 1)[..., None]
    # [steps, 2, labels, posts], without and with the emission of their own step
    without_own = torch.empty_like(emissions)
    without_own[0] = torch.stack([chain.start, chain.end])[..., None]
    with_own = without_own[0] + emissions[0]
    for step, emission in zip(without_own[1:].unbind(), emissions[1:].unbind(), strict=True):
        # [from, 2, to, posts]
        paths = with_own.transpose(0, 1).unsqueeze(2) + transitions
        top = paths.amax(0)
        torch.sum(paths.sub_(top).exp_(), 0, out=step)
        with_own = step.log_().add_(top) + emission
    alpha, beta = without_own[:, 0] + chain.emissions, without_own[:, 1].gather(0, reverse)
    return Messages(alpha, beta + chain.emissions, beta, chain.transitions, (alpha[0] + beta[0]).logsumexp(0))


def log_marginals(chain: Chain) -> Tensor:
    """Return log p(y_t), ``[steps, labels, posts]``, with gradients, by the recursions of `messages`.

    In padding, and for rows without tokens, the values mean nothing.
    """
    emissions, reverse = chain.bidirectional_emissions()
    # [from, 2, to, 1]
    transitions = torch.stack([chain.transitions, chain.transitions.T], 1)[..., None]
    # [2, labels, posts], without and with the emission of their own step
    without_own = torch.stack([chain.start, chain.end])[..., None].expand_as(emissions[0])
    steps = [without_own]
    for emission in emissions[:-1].unbind():
        with_own = without_own + emission
        without_own = (with_own.transpose(0, 1).unsqueeze(2) + transitions).logsumexp(0)
        steps.append(without_own)
    both = torch.stack(steps)
    alpha, beta = both[:, 0] + chain.emissions, both[:, 1].gather(0, reverse)
    return (alpha + beta).log_softmax(1)


def best_paths(chain: Chain) -> Tensor:
    """Return the most probable labels by the Viterbi algorithm, ``[steps, posts]``; 0 in padding.

    best[t, j] = emissions[t, j] + max_i (best[t-1, i] + transitions[i, j])
    """
    num_steps, labels, posts = chain.emissions.shape
    # [steps, labels, posts]
    best = torch.empty_like(chain.emissions)
    # the best previous label; at step 0 the best last label of the row
    pointers = best.new_empty(best.shape, dtype=torch.int64)
    before = torch.add(chain.start[:, None], chain.emissions[0], out=best[0])
    transitions = chain.transitions[..., None]
    # [from, to, posts]
    paths = best.new_empty(labels, labels, posts)
    views = zip(best.unbind(), pointers.unbind(), chain.emissions.unbind(), strict=True)
    for score, pointer, emission in itertools.islice(views, 1, None):
        torch.add(before.unsqueeze(1), transitions, out=paths)
        torch.max(paths, 0, out=(score, pointer))
        before = score.add_(emission)
    last = (chain.mask.sum(0) - 1).clamp(min=0).expand(1, labels, -1)
    pointers[0] = (best.gather(0, last)[0] + chain.end[:, None]).argmax(0)
    # in padding each label points at itself
    stay = torch.arange(labels, device=pointers.device)[:, None]
    pointers[1:] = torch.where(chain.mask[1:, None], pointers[1:], stay)
    # the only copy from the device
    table = pointers.cpu().numpy()
    path = np.empty((num_steps, posts), dtype=np.int64)
    path[-1] = table[0, 0]
    columns = np.arange(posts)
    for step in range(num_steps - 1, 0, -1):
        path[step - 1] = table[step, path[step], columns]
    return torch.from_numpy(path).to(chain.mask.device).masked_fill(~chain.mask, 0)
