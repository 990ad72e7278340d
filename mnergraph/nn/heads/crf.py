"""A linear-chain conditional random field over tags."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torchcrf
from torch import Tensor

from mnergraph.labels import span_label
from mnergraph.nn.heads.checks import check_inputs, check_lengths, span_tags
from mnergraph.nn.heads.crf_loss import SAFE_SCORE_RANGE, LogLikelihood
from mnergraph.nn.heads.forward_backward import Chain, best_paths, log_marginals, messages


def forbidden_transitions(tags: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return what BIO2 forbids: first labels ``[labels]`` and transitions ``[labels, labels]`` (from, to), bool.

    ``I-T`` may follow ``B-T`` and ``I-T`` only, and may not come first; plain ``B`` and ``I`` (span detection) are tags
    of one type. Transitions from and to labels that are not BIO2 tags (PAD, X, [CLS], [SEP]) are allowed: ``I-T`` may
    follow X (a later piece of a word), as a transition depends on one previous label only.

    Args:
        tags: the labels' names, in order.
    """
    # (B, I, O or another label; the entity type)
    parts = [tag.partition("-")[::2] for tag in tags]
    start = [prefix == "I" for prefix, _ in parts]
    transitions = [
        [prefix == "I" and (previous == "O" or (previous in "BI" and old != new)) for prefix, new in parts]
        for previous, old in parts
    ]
    return torch.tensor(start, dtype=torch.bool), torch.tensor(transitions, dtype=torch.bool)


def type_changes(tags: Sequence[str]) -> Tensor:
    """Return which transitions go on with an entity as one of another type, ``[labels, labels]`` (from, to), bool.

    Args:
        tags: the labels' names, in order.
    """
    parts = [tag.partition("-")[::2] for tag in tags]
    changes = [
        [prefix == "I" and previous in ("B", "I") and old != new for prefix, new in parts] for previous, old in parts
    ]
    return torch.tensor(changes, dtype=torch.bool)


def _as_one_type(tags: Sequence[str]) -> Tensor:
    """Return for each label that of the same kind (B, I) and of one type, the first that has a B, ``[labels]``."""
    entity_type = next((tag[1:] for tag in tags if tag.startswith("B")), "")
    names = [name + entity_type if (name := span_label(tag)) in ("B", "I") else tag for tag in tags]
    return torch.tensor([tags.index(name) if name in tags else index for index, name in enumerate(names)])


class CRF(torchcrf.CRF):
    """Linear-chain CRF over tags (Lafferty et al., 2001; of neural emissions: Lample et al., 2016, section 2.2).

    log p(y | x) = start[y_1] + sum_t emissions[t, y_t] + sum_t transitions[y_t, y_t+1] + end[y_n] - log Z

    It has the parameters of ``torchcrf.CRF`` (pytorch-crf), so that checkpoints of either load in the other. It is
    faster, and adds empty rows, marginal probabilities and forbidden transitions. Padding is at the end of a row.

    Args:
        tags: the labels' names, in order.
        constrain: give what BIO2 forbids (`forbidden_transitions`) probability 0, in the loss and in decoding.
            Parameters are not changed, and the gradient of a forbidden transition is 0. Gold tags that are not valid
            BIO2 (Twitter-2015 has some) are then an error; `mnergraph.labels.fix_bio` makes them valid.

    Raises:
        ValueError: with ``constrain``, for an I label without its B label.
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
        self.register_buffer("type_changes", type_changes(self.tags), persistent=False)
        self.register_buffer("one_type", _as_one_type(self.tags), persistent=False)

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Return log p(tags) of every post, ``[posts]``, float32 (float64 for float64 emissions); 0 for an empty row.

        Args:
            emissions: ``[posts, max tokens, labels]``.
            tags: ``[posts, max tokens]``, int64.
            mask: ``[posts, max tokens]``, bool.
        """
        forbidden = (self.forbidden_start, self.forbidden_transitions) if self.constrain else None
        check_inputs(emissions, mask, self.tags, tags, parameters=list(self.parameters()), forbidden=forbidden)
        if not mask.numel():
            return emissions.float().sum((1, 2))
        scaled = self._is_safe_to_scale(emissions, mask)
        log_likelihood: Tensor = LogLikelihood.apply(emissions, *self.transition_scores(), tags, mask, scaled)
        return log_likelihood

    def span_log_likelihood(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Return log p(the spans that tags mark) of every post, summed over all types of the entities, ``[posts]``.

        log sum over y' of p(y' | x), where y' has B, I and O where ``tags`` has, and one type within an entity.

        Args:
            emissions: ``[posts, max tokens, labels]``.
            tags: ``[posts, max tokens]``, int64; their types do not matter.
            mask: ``[posts, max tokens]``, bool.
        """
        if not mask.numel():
            return self(emissions, tags, mask)
        # log sum p(y') = log p(y) - log p(y | spans), for any y that marks the spans
        known = tags.clamp(0, len(self.tags) - 1)
        one_type = torch.where(known == tags, self.one_type[known], tags)
        log_p: Tensor = self(emissions, one_type, mask)
        within = emissions.masked_fill(self.one_type != self.one_type[known][..., None], -torch.inf)
        start, end, transitions = self.transition_scores()
        scores = start, end, transitions.masked_fill(self.type_changes, -torch.inf)
        scaled = self._is_safe_to_scale(emissions, mask, constrain=True)
        conditional: Tensor = LogLikelihood.apply(within, *scores, one_type.masked_fill(~mask, 0), mask, scaled)
        return log_p - conditional

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return the most probable tags of each post, ``[posts, max tokens]``, int64; 0 in padding."""
        check_inputs(emissions, mask, self.tags, parameters=list(self.parameters()))
        if not mask.numel():
            return torch.zeros_like(mask, dtype=torch.int64)
        return best_paths(Chain.from_scores(emissions, *self.transition_scores(), mask)).T

    @torch.no_grad()
    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return p(y_t = k | x), ``[posts, max tokens, labels]``, float32; 0 in padding."""
        check_inputs(emissions, mask, self.tags, parameters=list(self.parameters()))
        if not mask.numel():
            return torch.zeros_like(emissions, dtype=torch.float32)
        marginals = messages(Chain.from_scores(emissions, *self.transition_scores(), mask)).marginals()
        return marginals.permute(2, 0, 1).masked_fill(~mask[..., None], 0.0).float()

    def log_marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return log p(y_t = k | x) with gradients, ``[posts, max tokens, labels]``, at least float32; 0 in padding."""
        check_inputs(emissions, mask, self.tags, parameters=list(self.parameters()))
        if not mask.numel():
            return emissions.float()
        found = log_marginals(Chain.from_scores(emissions, *self.transition_scores(), mask))
        found = found.permute(2, 0, 1).masked_fill(~mask[..., None], 0.0)
        return found.to(torch.promote_types(emissions.dtype, torch.float32))

    @torch.no_grad()
    def span_probability(
        self, emissions: Tensor, mask: Tensor, spans: Sequence[Sequence[tuple[int, int, str]]]
    ) -> list[list[float]]:
        """Return the probability that exactly this span is an entity, for each span of each post.

        For a span (start, end, T) this is the posterior mass of all label sequences in which
        `mnergraph.labels.tags_to_spans` reads this span: B-T I-T ... I-T over its tokens, or I-T alone where neither
        B-T nor I-T is before, as a CRF without ``constrain`` may decode; and no I-T next. A longer or a shorter span
        is another event.

        Args:
            emissions: ``[posts, max tokens, labels]``.
            mask: ``[posts, max tokens]``, bool.
            spans: first token, end (exclusive) and type of the spans of every post.

        Raises:
            ValueError: for a span outside its post, or a type without labels.
        """
        check_inputs(emissions, mask, self.tags, parameters=list(self.parameters()))
        check_lengths(spans, mask)
        if not mask.numel():
            for span in itertools.chain.from_iterable(spans):
                span_tags(self.tags, span, 0)
            return [[] for _ in spans]
        chain = Chain.from_scores(emissions, *self.transition_scores(), mask)
        lengths = mask.sum(1).tolist()
        # one path for each way in which a span may begin, with B-T and with I-T
        firsts: list[tuple[int, int, int, int, int]] = []  # span, post, token, label, whether that is I-T
        lasts: list[tuple[int, int, int]] = []  # token after the span, its last label, label that may not follow
        steps: list[tuple[int, int, int, int, int]] = []  # path, post, token, label before, label
        number = itertools.count()
        for row, length in enumerate(lengths):
            for span in spans[row]:
                start, end, _ = span
                begin, inside = span_tags(self.tags, span, length)
                index = next(number)
                for first in (begin, inside):
                    if first is None:
                        continue
                    labels = [first, *[-1 if inside is None else inside] * (end - start - 1)]
                    for step in range(1, len(labels)):
                        steps.append((len(firsts), row, start + step, labels[step - 1], labels[step]))
                    firsts.append((index, row, start, first, int(first == inside)))
                    lasts.append((end, labels[-1], -1 if inside is None else inside))
        if not firsts:
            return [[] for _ in spans]
        sums, device = messages(chain), emissions.device
        span_of, posts, starts, first_labels, opens_inside = torch.tensor(firsts, device=device).unbind(1)
        next_tokens, last_labels, continuing = torch.tensor(lasts, device=device).unbind(1)
        # [paths, labels]: all labels before an I-T that begins a span, but B-T and I-T
        before = sums.alpha[(starts - 1).clamp(min=0), :, posts] + chain.transitions[:, first_labels].T
        entity_types = torch.tensor(self._type_ids(), device=device)
        same_type = entity_types == entity_types[first_labels][:, None]
        opened = before.masked_fill(same_type, -torch.inf).logsumexp(1) + chain.emissions[starts, first_labels, posts]
        entering = torch.where((opens_inside == 1) & (starts > 0), opened, sums.alpha[starts, first_labels, posts])
        scores = entering - sums.log_z[posts]
        if steps:
            path, of, token, label_before, label = torch.tensor(steps, device=device).unbind(1)
            moves = chain.transitions[label_before, label] + chain.emissions[token, label, of]
            scores = scores.index_add(0, path, moves)
        ends = next_tokens == torch.tensor(lengths, device=device)[posts]
        # [paths, labels]: all continuations but I-T
        onward = chain.transitions[last_labels]
        onward = onward + sums.beta_with_emission[next_tokens.masked_fill(ends, 0), :, posts]
        continues = torch.arange(onward.shape[1], device=device) == continuing[:, None]
        onward = torch.where(ends, chain.end[last_labels], onward.masked_fill(continues, -torch.inf).logsumexp(1))
        masses = (scores + onward).exp()
        chances = masses.new_zeros(next(number)).index_add(0, span_of, masses)
        values = iter(chances.clamp(max=1.0).tolist())
        return [list(itertools.islice(values, len(post))) for post in spans]

    def _type_ids(self) -> list[int]:
        """The entity type of every label as a number; labels that are no B-T or I-T have one of their own."""
        names = [tag[1:] if tag[:2] in ("B-", "I-") else f"label {index}" for index, tag in enumerate(self.tags)]
        return [names.index(name) for name in names]

    def transition_scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return start, end and transition scores, minus infinity where forbidden."""
        if not self.constrain:
            return self.start_transitions, self.end_transitions, self.transitions
        start = self.start_transitions.masked_fill(self.forbidden_start, -torch.inf)
        return (
            start,
            self.end_transitions,
            self.transitions.masked_fill(self.forbidden_transitions, -torch.inf),
        )

    def _is_safe_to_scale(self, emissions: Tensor, mask: Tensor, *, constrain: bool | None = None) -> bool:
        """Return whether scores differ so little that probabilities do not underflow; see `crf_loss`."""
        constrain = self.constrain if constrain is None else constrain
        scores = torch.cat([parameter.detach().flatten() for parameter in self.parameters()])
        score_range = scores.max() - scores.min()
        if constrain:
            unpadded = emissions.detach().masked_fill(~mask[..., None], 0.0)
            score_range = score_range + (unpadded.amax(-1) - unpadded.amin(-1)).max()
        return bool(score_range < SAFE_SCORE_RANGE)
