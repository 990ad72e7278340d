"""Registry of the extractors, and the extractor of a store's manifest."""

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
            "Feature map of a torchvision ResNet (7 x 7 for 224 pixels) or patches of a ViT, and one pooled vector.",
        ),
        "BackbonePyramid": (
            "mnergraph.features.vision.backbones:BackbonePyramid",
            "The stages of a torchvision ResNet, each averaged to 2 x 2 places, in one vector (HVPNeT).",
        ),
        "VisionTower": (
            "mnergraph.features.vision.backbones:VisionTower",
            "Patches and pooled vector of a vision model of transformers: CLIP, SigLIP, DINO, ViT, ...",
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
            "Boxes of the noun phrases of the sentence and of generic queries, by zero-shot detection.",
        ),
        "Captioner": (
            "mnergraph.features.vision.captioning:Captioner",
            "Captions by BLIP, BLIP-2, GIT or another image-to-text model that needs no prompt.",
        ),
        "OCR": (
            "mnergraph.features.vision.ocr:OCR",
            "The lines of text in an image, by RapidOCR, as context.",
        ),
        "KnowledgeGenerator": (
            "mnergraph.features.vision.knowledge:KnowledgeGenerator",
            "Knowledge about a post by a language model, which reads its words and a caption of its image, as context.",
        ),
    },
)


def extractor_of(manifest: Manifest) -> Extractor:
    """Return the extractor of a manifest: the same class, settings and weights.

    A manifest holds only the last part of the path of weights, so they must be reachable under that name from the
    working directory.

    Raises:
        ValueError: for a class that is not in `EXTRACTORS`, settings that it does not have, or an extractor
            that turns out another one, naming each difference.
        OSError: when its weights are not available.
    """
    from mnergraph.features.store.entries import manifest_of

    if manifest.extractor not in EXTRACTORS:
        raise ValueError(
            f"there is no extractor {manifest.extractor!r}; there is {', '.join(EXTRACTORS)}, and one of "
            "your own once it stands in mnergraph.features.vision.registry.EXTRACTORS"
        )
    settings = {name: value for name, value in manifest.settings.items() if name != "processor"}
    try:
        extractor = EXTRACTORS[manifest.extractor](**{name: _setting(value) for name, value in settings.items()})
    except TypeError as error:
        raise ValueError(f"{manifest.extractor} has other settings in this version: {error}") from error
    differences = manifest.differences(manifest_of(extractor, manifest.dtype))
    if differences:
        raise ValueError(f"{manifest.extractor} of these settings is another one here: {'; '.join(differences)}")
    return extractor


def _setting(value: Any) -> Any:
    """Return a JSON value as the class takes it: lists as tuples, the identity of a part as the part."""
    if isinstance(value, list):
        return tuple(map(_setting, value))
    if isinstance(value, dict) and value.get("extractor") == "RegionEncoder":
        from mnergraph.features.vision.crops import RegionEncoder

        return RegionEncoder(**value["settings"])
    if isinstance(value, dict) and value.get("extractor") == "Captioner":
        from mnergraph.features.vision.captioning import Captioner

        return Captioner(**value["settings"])
    return value
