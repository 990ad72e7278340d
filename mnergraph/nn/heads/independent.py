"""Independent tags: the decoder of models without a CRF."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mnergraph.nn.heads.checks import check_inputs, check_lengths, span_tags


class IndependentTags(nn.Module):
    """Tags by a softmax over the labels of each token, with the interface of `CRF` and no parameters.

    log p(y | x) = sum_t log softmax(emissions[t])[y_t]

    Args:
        tags: the labels' names, in order.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        super().__init__()
        self.tags = tuple(tags)

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Return log p(tags) of every post, ``[posts]``, float32 (float64 for float64 emissions); 0 for an empty row.

        Args:
            emissions: ``[posts, max tokens, labels]``.
            tags: ``[posts, max tokens]``, int64.
            mask: ``[posts, max tokens]``, bool.
        """
        check_inputs(emissions, mask, self.tags, tags)
        gold = tags.masked_fill(~mask, 0)[..., None]
        # [posts, max tokens]
        scores = _log_probabilities(emissions, mask).gather(-1, gold)[..., 0]
        return scores.masked_fill(~mask, 0.0).sum(1)

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return the most probable tag of each token, ``[posts, max tokens]``, int64; 0 in padding."""
        check_inputs(emissions, mask, self.tags)
        return emissions.argmax(-1).masked_fill(~mask, 0)

    @torch.no_grad()
    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return p(y_t = k | x), ``[posts, max tokens, labels]``, float32; 0 in padding."""
        check_inputs(emissions, mask, self.tags)
        return _log_probabilities(emissions, mask).exp().masked_fill(~mask[..., None], 0.0).float()

    def log_marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return log p(y_t = k | x) with gradients, ``[posts, max tokens, labels]``, at least float32; 0 in padding."""
        check_inputs(emissions, mask, self.tags)
        return _log_probabilities(emissions, mask).masked_fill(~mask[..., None], 0.0)

    @torch.no_grad()
    def span_probability(
        self, emissions: Tensor, mask: Tensor, spans: Sequence[Sequence[tuple[int, int, str]]]
    ) -> list[list[float]]:
        """Return the probability that exactly this span is an entity, for each span of each post.

        The same event as for `CRF`: B-T I-T ... I-T over the tokens of (start, end, T), or I-T alone where neither B-T
        nor I-T is before; and no I-T next. For independent tags it is the product of p(B-T) + p(I-T) (1 - p(B-T) before
        - p(I-T) before) at the first token, p(I-T) at the others, and 1 - p(I-T) at the token after the span.

        Args:
            emissions: ``[posts, max tokens, labels]``.
            mask: ``[posts, max tokens]``, bool.
            spans: first token, end (exclusive) and type of the spans of every post.

        Raises:
            ValueError: for a span outside its post, or a type without labels.
        """
        check_lengths(spans, mask)
        # [posts, max tokens, labels]
        marginals = self.marginals(emissions, mask).double().cpu()
        scores: list[list[float]] = []
        for row, length in enumerate(mask.sum(1).tolist()):
            scores.append([])
            for span in spans[row]:
                start, end, _ = span
                begin, inside = span_tags(self.tags, span, length)
                score = marginals.new_zeros(()) if begin is None else marginals[row, start, begin]
                if inside is not None:
                    own = [label for label in (begin, inside) if label is not None]
                    continues = marginals[row, start - 1, own].sum().clamp(max=1.0) if start else 0.0
                    score = score + marginals[row, start, inside] * (1.0 - continues)
                    score = score * marginals[row, start + 1 : end, inside].prod()
                if end < length and inside is not None:
                    score = score * (1.0 - marginals[row, end, inside])
                scores[-1].append(float(score))
        return scores


def _log_probabilities(emissions: Tensor, mask: Tensor) -> Tensor:
    """Return log p(label), ``[posts, max tokens, labels]``, at least float32; uniform in padding."""
    scores = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
    return scores.masked_fill(~mask[..., None], 0.0).log_softmax(-1)
