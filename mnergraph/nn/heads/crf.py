"""A linear-chain conditional random field over tags."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torchcrf
from torch import Tensor

from mnergraph.nn.heads.checks import check, check_lengths, span_tag_ids
from mnergraph.nn.heads.crf_loss import GENTLE, LogLikelihood
from mnergraph.nn.heads.forward_backward import Chain, best_paths, messages


def forbidden_transitions(tags: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What BIO2 forbids: first labels [labels] and neighbours [labels, labels] (from row to column), bool.

    ``I-T`` may follow ``B-T`` and ``I-T`` only, and may not come first; plain ``B`` and ``I`` (span
    detection) are tags of one type. A label that is no BIO2 tag (PAD, X, [CLS], [SEP]) is free on both sides:
    ``I-T`` may follow an X (a word's later piece), as one transition cannot know what stood before the X.
    """
    # (B, I, O or another label; the type)
    parts = [tag.partition("-")[::2] for tag in tags]
    start = [prefix == "I" for prefix, _ in parts]
    pairs = [
        [prefix == "I" and (before == "O" or (before in "BI" and old != new)) for prefix, new in parts]
        for before, old in parts
    ]
    return torch.tensor(start, dtype=torch.bool), torch.tensor(pairs, dtype=torch.bool)


class CRF(torchcrf.CRF):
    """Linear-chain CRF head (Lafferty et al., 2001; over neural emissions: Lample et al., 2016, section 2.2).

    log p(y | x) = start[y_1] + sum_t emissions[t, y_t] + sum_t transitions[y_t, y_t+1] + end[y_n] - log Z

    Same parameters as ``torchcrf.CRF`` (pytorch-crf), so checkpoints load both ways; faster, and with empty
    rows, marginal probabilities and forbidden transitions. Rows must be masked at their end only.

    Args:
        tags: the labels' names, in order.
        constrain: give what BIO2 forbids (``forbidden_transitions``) probability 0, in the loss and in decoding. Stored
            parameters are not touched, and the gradient of a forbidden one is 0. Gold tags that break BIO2
            (Twitter-2015 has some) are then refused: mnergraph.labels.fix_bio makes them valid.
    """

    def __init__(self, tags: Sequence[str], *, constrain: bool = False) -> None:
        super().__init__(len(tags), batch_first=True)
        self.tags = tuple(tags)
        self.constrain = constrain
        start, transitions = forbidden_transitions(self.tags)
        unreachable = sorted({tag for tag in self.tags if tag[:1] == "I" and "B" + tag[1:] not in self.tags})
        if constrain and unreachable:
            raise ValueError(f"constrain=True needs a B for every I; there is none for {', '.join(unreachable)}")
        self.register_buffer("forbidden_start", start, persistent=False)
        self.register_buffer("forbidden_transitions", transitions, persistent=False)

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """log p(tags) per sentence: [sentences], float32 (float64 for float64 emissions); 0 for an empty row.

        Args:
            emissions: [sentences, slots, labels].
            tags: [sentences, slots], int64.
            mask: [sentences, slots], bool.
        """
        forbidden = (self.forbidden_start, self.forbidden_transitions) if self.constrain else None
        check(emissions, mask, self.tags, tags, parameters=list(self.parameters()), forbidden=forbidden)
        if not mask.numel():
            return emissions.float().sum((1, 2))
        found: Tensor = LogLikelihood.apply(emissions, *self._scores(), tags, mask, self._gentle(emissions, mask))
        return found

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """The most probable tags of each sentence: [sentences, slots], int64, 0 where masked."""
        check(emissions, mask, self.tags, parameters=list(self.parameters()))
        if not mask.numel():
            return torch.zeros_like(mask, dtype=torch.int64)
        return best_paths(Chain.from_scores(emissions, *self._scores(), mask)).T

    @torch.no_grad()
    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """p(y_t = k | x): [sentences, slots, labels], float32, 0 where masked."""
        check(emissions, mask, self.tags, parameters=list(self.parameters()))
        if not mask.numel():
            return torch.zeros_like(emissions, dtype=torch.float32)
        found = messages(Chain.from_scores(emissions, *self._scores(), mask)).marginals()
        return found.permute(2, 0, 1).masked_fill(~mask[..., None], 0.0).float()

    @torch.no_grad()
    def span_probability(
        self, emissions: Tensor, mask: Tensor, spans: Sequence[Sequence[tuple[int, int, str]]]
    ) -> list[list[float]]:
        """The probability that exactly this entity stands there, for each span of each sentence.

        For a half-open span (start, end, T) that is p(B-T I-T ... I-T over its words, and no I-T next): the
        posterior mass of all label sequences that spell this span, whatever they say elsewhere. A longer or
        a shorter span is another event.
        """
        check(emissions, mask, self.tags, parameters=list(self.parameters()))
        check_lengths(spans, mask)
        if not mask.numel():
            for span in itertools.chain.from_iterable(spans):
                span_tag_ids(self.tags, span, 0)
            return [[] for _ in spans]
        chain = Chain.from_scores(emissions, *self._scores(), mask)
        found = messages(chain)
        # one copy each off the device: [sentences, slots, labels]
        left, ahead, own = (part.permute(2, 0, 1).cpu() for part in (found.left, found.ahead, chain.emissions))
        log_z, lengths = found.log_z.cpu(), mask.sum(1).tolist()
        ending, transitions = chain.end.cpu(), chain.transitions.cpu()
        scores: list[list[float]] = []
        for row, length in enumerate(lengths):
            scores.append([])
            for span in spans[row]:
                start, end, _ = span
                labels, inside = span_tag_ids(self.tags, span, length)
                score = left[row, start, labels[0]] - log_z[row]
                for step in range(1, len(labels)):
                    score += transitions[labels[step - 1], labels[step]] + own[row, start + step, labels[step]]
                # [labels]: every way on but I-T
                onward = transitions[labels[-1]] + ahead[row, end] if end < length else ending[labels[-1], None]
                if end < length and inside is not None:
                    onward[inside] = -torch.inf
                scores[-1].append(float((score + onward.logsumexp(0)).exp().clamp(max=1.0)))
        return scores

    def _scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Start, end and transitions, with what is forbidden at minus infinity."""
        if not self.constrain:
            return self.start_transitions, self.end_transitions, self.transitions
        start = self.start_transitions.masked_fill(self.forbidden_start, -torch.inf)
        return (
            start,
            self.end_transitions,
            self.transitions.masked_fill(self.forbidden_transitions, -torch.inf),
        )

    def _gentle(self, emissions: Tensor, mask: Tensor) -> bool:
        """Whether scores differ so little that probabilities do not underflow (see ``crf_loss``)."""
        scores = torch.cat([parameter.detach().flatten() for parameter in self.parameters()])
        swing = scores.max() - scores.min()
        if self.constrain:
            seen = emissions.detach().masked_fill(~mask[..., None], 0.0)
            swing = swing + (seen.amax(-1) - seen.amin(-1)).max()
        return bool(swing < GENTLE)
