"""Sums and maxima over all label sequences of a linear chain.

    score(y) = start[y_1] + sum_t emissions[t, y_t] + sum_t transitions[y_t, y_t+1] + end[y_n]
    log p(y) = score(y) - log Z,   Z = sum over all y of exp score(y)

Lafferty, McCallum and Pereira, "Conditional Random Fields", ICML 2001, sections 3 and 4.

Sums are float64. The recursions from the left and from the right run in the same loop: rows are turned round
within their own length, so both start at step 0 and no step needs a mask.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Stands for minus infinity: sums and differences of it are never NaN.
FLOOR = -1e30


class Chain(NamedTuple):
    """Scores in float64, sentences last (long vectors, few of them, in each step).

    emissions: [slots, labels, sentences], zero under the mask.
    start, end: [labels]; transitions: [labels, labels], from row to column.
    mask: [slots, sentences]. At least one slot.
    """

    emissions: Tensor
    start: Tensor
    end: Tensor
    transitions: Tensor
    mask: Tensor

    @classmethod
    def from_scores(cls, emissions: Tensor, start: Tensor, end: Tensor, transitions: Tensor, mask: Tensor) -> Chain:
        """From emissions [sentences, slots, labels] of any floating type and a mask [sentences, slots]."""
        emissions, start, end, transitions = (
            scores.double().clamp(min=FLOOR) for scores in (emissions, start, end, transitions)
        )
        emissions = emissions.masked_fill(~mask[..., None], 0.0).permute(1, 2, 0).contiguous()
        return cls(emissions, start, end, transitions, mask.T)

    def both_ways(self) -> tuple[Tensor, Tensor]:
        """Emissions from the left and, each row turned round, from the right; and the steps that turn a row.

        Returns [slots, 2, labels, sentences] and [slots, labels, sentences]; turning twice changes nothing.
        """
        places = torch.arange(len(self.mask), device=self.mask.device)[:, None]
        turned = (self.mask.sum(0) - 1 - places).clamp(min=0)[:, None].expand_as(self.emissions)
        return torch.stack([self.emissions, self.emissions.gather(0, turned)], 1), turned


class Messages(NamedTuple):
    """What the words before and after say of each label, as logarithms.

    left: [slots, labels, sentences], alpha: sum over the beginnings that end here, own emission included.
    ahead: the same from the other side, own emission included.
    right: beta: as ahead, own emission not included.
    transitions: [labels, labels].
    log_z: [sentences].
    """

    left: Tensor
    ahead: Tensor
    right: Tensor
    transitions: Tensor
    log_z: Tensor

    def marginals(self) -> Tensor:
        """p(y_t) as [slots, labels, sentences]."""
        return (self.left + self.right).softmax(1)

    def pairwise_marginals(self, weights: Tensor) -> Tensor:
        """Weighted sum of p(y_t-1 = i, y_t = j) over [slots, sentences], as [labels, labels]; 0 in slot 0."""
        # [slots - 1, from, 1, sentences] and [slots - 1, 1, to, sentences]
        before = (self.left[:-1] - self.log_z)[:, :, None]
        after = self.ahead[1:].masked_fill(weights[1:, None] == 0, -torch.inf)[:, None]
        return torch.einsum("tijs,ts->ij", (before + after + self.transitions[..., None]).exp_(), weights[1:])


def messages(chain: Chain) -> Messages:
    """alpha and beta by the forward-backward recursions, right for any scores.

    alpha[t, j] = emissions[t, j] + log sum_i exp(alpha[t-1, i] + transitions[i, j])
    beta[t, i]  = log sum_j exp(transitions[i, j] + emissions[t+1, j] + beta[t+1, j])
    """
    emissions, turned = chain.both_ways()
    # [from, 2, to, 1]
    transitions = torch.stack([chain.transitions, chain.transitions.T], 1)[..., None]
    # [slots, 2, labels, sentences]: without the emission of their own step
    bare = torch.empty_like(emissions)
    bare[0] = torch.stack([chain.start, chain.end])[..., None]
    full = bare[0] + emissions[0]
    for step, emission in zip(bare[1:].unbind(), emissions[1:].unbind(), strict=True):
        # [from, 2, to, sentences]
        paths = full.transpose(0, 1).unsqueeze(2) + transitions
        top = paths.amax(0)
        torch.sum(paths.sub_(top).exp_(), 0, out=step)
        full = step.log_().add_(top) + emission
    left, right = bare[:, 0] + chain.emissions, bare[:, 1].gather(0, turned)
    ahead = right + chain.emissions
    return Messages(left, ahead, right, chain.transitions, (left[0] + right[0]).logsumexp(0))


def best_paths(chain: Chain) -> Tensor:
    """The most probable labels [slots, sentences], by Viterbi's recursion; 0 under the mask.

    best[t, j] = emissions[t, j] + max_i (best[t-1, i] + transitions[i, j])
    """
    slots, labels, sentences = chain.emissions.shape
    # [slots, labels, sentences]
    best = torch.empty_like(chain.emissions)
    # the label before; in slot 0 the last label of the row
    pointers = best.new_empty(best.shape, dtype=torch.int64)
    before = torch.add(chain.start[:, None], chain.emissions[0], out=best[0])
    transitions = chain.transitions[..., None]
    # [from, to, sentences]
    paths = best.new_empty(labels, labels, sentences)
    views = zip(best.unbind(), pointers.unbind(), chain.emissions.unbind(), strict=True)
    for here, pointer, emission in itertools.islice(views, 1, None):
        torch.add(before.unsqueeze(1), transitions, out=paths)
        torch.max(paths, 0, out=(here, pointer))
        before = here.add_(emission)
    last = (chain.mask.sum(0) - 1).clamp(min=0).expand(1, labels, -1)
    pointers[0] = (best.gather(0, last)[0] + chain.end[:, None]).argmax(0)
    # under the mask each label points at itself
    stay = torch.arange(labels, device=pointers.device)[:, None]
    pointers[1:] = torch.where(chain.mask[1:, None], pointers[1:], stay)
    # the one copy off the device
    table = pointers.cpu().numpy()
    path = np.empty((slots, sentences), dtype=np.int64)
    path[-1] = table[0, 0]
    rows = np.arange(sentences)
    for slot in range(slots - 1, 0, -1):
        path[slot - 1] = table[slot, path[slot], rows]
    return torch.from_numpy(path).to(chain.mask.device).masked_fill(~chain.mask, 0)
