"""All extractors by name, and one made again from what the manifest of a store says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnergraph.registry import Registry

if TYPE_CHECKING:
    from mnergraph.features.store.manifest import Manifest
    from mnergraph.features.vision.extractor import Extractor

#: Every extractor, by name; one of your own that is registered here is made again from manifests, too.
EXTRACTORS: Registry[type[Extractor]] = Registry(
    "extractor",
    {
        "BackboneGrid": (
            "mnergraph.features.vision.backbones:BackboneGrid",
            "The map of a torchvision ResNet, 7 x 7 for 224 pixels, or the patches of its ViT; and one vector.",
        ),
        "VisionTower": (
            "mnergraph.features.vision.backbones:VisionTower",
            "The patches and the pooled vector of a vision model of transformers: CLIP, SigLIP, DINO, ViT, ...",
        ),
        "RCNNDetector": (
            "mnergraph.features.vision.detectors:RCNNDetector",
            "Boxes of a Faster or Mask R-CNN, each with its label, score and region vector.",
        ),
        "DETRDetector": (
            "mnergraph.features.vision.detr:DETRDetector",
            "Boxes of DETR, Deformable DETR, RT-DETR, YOLOS, ..., each with its label, score and region vector.",
        ),
        "PhraseGrounder": (
            "mnergraph.features.vision.grounding:PhraseGrounder",
            "The boxes that each phrase of the sentence grounds, and those of the general words.",
        ),
        "Captioner": (
            "mnergraph.features.vision.captioning:Captioner",
            "What BLIP, BLIP-2, GIT or another model that writes about a picture alone says of it.",
        ),
    },
)


def extractor_of(manifest: Manifest) -> Extractor:
    """The extractor that a manifest tells of: the same class, settings and weights.

    A manifest knows folders and files of weights by their own name alone, so an extractor with such weights
    can be made again only where that name leads to them.

    Raises:
        ValueError: for a class that is not in `EXTRACTORS`, settings that it does not have, or an extractor
            that turns out another one, naming each difference.
        OSError: when its weights are not to be had here.
    """
    from mnergraph.features.store.entries import manifest_of

    if manifest.extractor not in EXTRACTORS:
        raise ValueError(
            f"there is no extractor {manifest.extractor!r}; there is {', '.join(EXTRACTORS)}, and one of "
            "your own once it stands in mnergraph.features.vision.registry.EXTRACTORS"
        )
    told = {name: value for name, value in manifest.settings.items() if name != "processor"}
    try:
        extractor = EXTRACTORS[manifest.extractor](**{name: _setting(value) for name, value in told.items()})
    except TypeError as error:
        raise ValueError(f"{manifest.extractor} has other settings in this version: {error}") from error
    differences = manifest.differences(manifest_of(extractor, manifest.dtype))
    if differences:
        raise ValueError(f"{manifest.extractor} of these settings is another one here: {'; '.join(differences)}")
    return extractor


def _setting(value: Any) -> Any:
    """A setting as the class has it: lists as tuples, and what was told of region vectors as `RegionEncoder`."""
    if isinstance(value, list):
        return tuple(map(_setting, value))
    if isinstance(value, dict) and value.get("extractor") == "RegionEncoder":
        from mnergraph.features.vision.crops import RegionEncoder

        return RegionEncoder(**value["settings"])
    return value
