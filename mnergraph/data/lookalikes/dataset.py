"""Lookalikes: a generated benchmark in which only the image determines the type of an ambiguous name.

Sentences come from `grammar`, images from `scenes` and `drawing`; `ceilings` derives the best scores that a model can
reach. With ``grounded``, posts have gold boxes, and the sentence says where in the image a name is; see `cues`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from torch_geometric.data import HeteroData

from mnergraph.data.datasets.base import PostDataset
from mnergraph.data.evidence import Evidence
from mnergraph.data.lookalikes import ceilings, cues, grammar, scenes
from mnergraph.data.lookalikes.ceilings import Ceiling, GroundingCeiling, GroundTruth
from mnergraph.data.lookalikes.generate import generate, read_truth
from mnergraph.pair import Pair


class Lookalikes(PostDataset):
    """Generated posts: seconds, no download, ten kilobytes a post.

    An ambiguous name ("Jordan") is of type PER, LOC, ORG or MISC with equal probability, independently of the words
    around it; the image has one object of a class of that type among distractors. ``ceiling`` and ``image_ceiling``
    are the best expected scores of models without and with images.

    With ``grounded``, every name that an image depicts has a gold box, the image has another object of its type, and
    words beside the name ("Jordan , on the left ,") say which of the two it is. The proposals, ``objects.jsonl``, are
    those of an *oracle detector*: the exact boxes and true labels of all drawn objects, without scores that would tell
    them apart; scores on them do not compare with those on a detector's. ``grounding_ceiling`` has the best expected
    scores.

    Args:
        root: the folder; the posts are generated in ``root/raw``, unless they exist with the same settings.
        split: "train", "valid" (or "dev", "val") or "test".
        seed: of all random draws; the same seed gives the same posts and pixels.
        sizes: number of posts of train, valid and test.
        image_irrelevant_ratio: share, among the posts with an image, of images that determine no entity's type.
        image_missing_ratio: share of posts without an image.
        irrelevant_images_mislead: whether irrelevant images have objects of random types, not only distractors.
        size: width and height of an image in pixels.
        grounded: whether posts are grounded.
        same_kind_distractors: of grounded posts, the share of the depicted names whose image has another object of the
            same type.
        cue_missing_ratio: of grounded posts, the share without words that say where the name is, of those with one
            ambiguous name. With two names, nothing else tells which object is which name's, so both have such words.
        proposal_missing_ratio: of grounded posts, the share of objects that depict names and are no proposals.
        evidence: evidence to attach; None for the drawn objects and the captions, without caption phrases as objects.
        builder: converts a pair to a graph; without it only ``pairs`` is available.
        force_reload: parse the text again.
        progress: whether to show a progress bar while the posts are generated.
    """

    license = "MIT, as mnergraph, which draws the posts."

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        seed: int = 0,
        sizes: tuple[int, int, int] = (1600, 200, 400),
        image_irrelevant_ratio: float = 0.1,
        image_missing_ratio: float = 0.1,
        irrelevant_images_mislead: bool = False,
        size: int = 160,
        grounded: bool = False,
        same_kind_distractors: float = 1.0,
        cue_missing_ratio: float = 0.0,
        proposal_missing_ratio: float = 0.0,
        evidence: Evidence | None = None,
        builder: Callable[[Pair], HeteroData] | None = None,
        force_reload: bool = False,
        progress: bool = True,
    ) -> None:
        raw = generate(
            Path(root).expanduser(),
            seed=seed,
            sizes=sizes,
            image_irrelevant_ratio=image_irrelevant_ratio,
            image_missing_ratio=image_missing_ratio,
            irrelevant_images_mislead=irrelevant_images_mislead,
            size=size,
            grounded=grounded,
            same_kind_distractors=same_kind_distractors,
            cue_missing_ratio=cue_missing_ratio,
            proposal_missing_ratio=proposal_missing_ratio,
            progress=progress,
        )
        if evidence is None:
            evidence = replace(Evidence.from_folder(raw), caption_phrases=False)
        super().__init__(root, split, evidence=evidence, builder=builder, force_reload=force_reload)

    @property
    def raw_dir(self) -> str:
        """The folder of the generated posts."""
        return str(self.folder / "raw")

    @cached_property
    def truth(self) -> dict[str, GroundTruth]:
        """The ground truth of every post by id: which names are ambiguous, depicted and resolved."""
        return read_truth(self.raw_dir)

    @property
    def ceiling(self) -> Ceiling:
        """The ceiling of models that read only the words of these posts."""
        return ceilings.ceiling(self.pairs, self.truth)

    @property
    def image_ceiling(self) -> Ceiling:
        """The ceiling of models that read the words and the images of these posts."""
        return ceilings.image_ceiling(self.pairs, self.truth)

    @property
    def grounding_ceiling(self) -> GroundingCeiling:
        """The ceilings of grounded posts, of models that choose among their proposals.

        Raises:
            ValueError: for posts that are not grounded.
        """
        if self.boxes is None:
            raise ValueError("these Lookalikes have no gold boxes; give grounded=True")
        return ceilings.grounding_ceiling(self.pairs, self.truth)


def vocabulary(*, grounded: bool = False) -> list[str]:
    """Return every word of sentences, labels and captions, sorted; if asked, those of grounded posts, too."""
    return sorted({*grammar.vocabulary(), *scenes.vocabulary(), *(cues.vocabulary() if grounded else ())})
