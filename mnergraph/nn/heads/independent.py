"""Independent tags: the scorer of systems without a CRF."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mnergraph.nn.heads.checks import check, check_lengths, span_tag_ids


class IndependentTags(nn.Module):
    """Every word's tag on its own, with the interface of ``CRF`` and no parameters.

    log p(y | x) = sum_t log softmax(emissions[t])[y_t]

    Args:
        tags: the labels' names, in order.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        super().__init__()
        self.tags = tuple(tags)

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """log p(tags) per sentence: [sentences], float32 (float64 for float64 emissions); 0 for an empty row.

        Args:
            emissions: [sentences, slots, labels].
            tags: [sentences, slots], int64.
            mask: [sentences, slots], bool.
        """
        check(emissions, mask, self.tags, tags)
        gold = tags.masked_fill(~mask, 0)[..., None]
        # [sentences, slots]
        scores = _log_probabilities(emissions, mask).gather(-1, gold)[..., 0]
        return scores.masked_fill(~mask, 0.0).sum(1)

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The most probable tag of each word: [sentences, slots], int64, 0 where masked."""
        check(emissions, mask, self.tags)
        return emissions.argmax(-1).masked_fill(~mask, 0)

    @torch.no_grad()
    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """p(y_t = k | x): [sentences, slots, labels], float32, 0 where masked."""
        check(emissions, mask, self.tags)
        return _log_probabilities(emissions, mask).exp().masked_fill(~mask[..., None], 0.0).float()

    @torch.no_grad()
    def span_probability(
        self, emissions: Tensor, mask: Tensor, spans: Sequence[Sequence[tuple[int, int, str]]]
    ) -> list[list[float]]:
        """The probability that exactly this entity stands there, for each span of each sentence.

        The same event as for ``CRF``: B-T I-T ... I-T over the words of (start, end, T), and no I-T next. For
        independent words it is a product, of p(tag) over the span and 1 - p(I-T) at the word after it.
        """
        check_lengths(spans, mask)
        # [sentences, slots, labels]
        chances = self.marginals(emissions, mask).double().cpu()
        scores: list[list[float]] = []
        for row, length in enumerate(mask.sum(1).tolist()):
            scores.append([])
            for span in spans[row]:
                start, end, _ = span
                labels, inside = span_tag_ids(self.tags, span, length)
                score = chances[row, range(start, end), labels].prod()
                if end < length and inside is not None:
                    score *= 1.0 - chances[row, end, inside]
                scores[-1].append(float(score))
        return scores


def _log_probabilities(emissions: Tensor, mask: Tensor) -> Tensor:
    """log softmax over labels [sentences, slots, labels] in at least float32, uniform where masked."""
    wide = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
    return wide.masked_fill(~mask[..., None], 0.0).log_softmax(-1)
