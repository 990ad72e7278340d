"""All extractors by name, and one made again from what the manifest of a store says of it."""

from __future__ import annotations

from typing import Any

from mnergraph.features.captions import Captioner
from mnergraph.features.detectors import RCNN
from mnergraph.features.extract import Extractor
from mnergraph.features.grounding import Grounder
from mnergraph.features.image import Regions, Tower
from mnergraph.features.manifest import Manifest
from mnergraph.features.queries import QueryDetector
from mnergraph.features.regions import Crops
from mnergraph.features.stored import manifest_of

#: Every extractor, by name; one of your own that stands here is made again from manifests, too.
EXTRACTORS: dict[str, type[Extractor]] = {
    kind.__name__: kind for kind in (Regions, Tower, RCNN, QueryDetector, Grounder, Captioner)
}


def extractor_of(manifest: Manifest) -> Extractor:
    """The extractor that a manifest tells of: the same class, settings and weights.

    A manifest knows folders and files of weights by their own name alone, so an extractor with such weights
    can be made again only where that name leads to them.

    Raises:
        ValueError: for a class that is not in `EXTRACTORS`, settings that it does not have, or an extractor
            that turns out another one, naming each difference.
        OSError: when its weights are not to be had here.
    """
    if manifest.extractor not in EXTRACTORS:
        raise ValueError(
            f"there is no extractor {manifest.extractor!r}; there is {', '.join(EXTRACTORS)}, and one of "
            "your own once it stands in mnergraph.features.extractors.EXTRACTORS"
        )
    told = {name: value for name, value in manifest.settings.items() if name != "processor"}
    try:
        extractor = EXTRACTORS[manifest.extractor](**{name: _setting(value) for name, value in told.items()})
    except TypeError as error:
        raise ValueError(f"{manifest.extractor} has other settings in this version: {error}") from error
    differences = manifest.differences(manifest_of(extractor, manifest.dtype))
    if differences:
        raise ValueError(
            f"{manifest.extractor} of these settings is another one here: {'; '.join(differences)}"
        )
    return extractor


def _setting(value: Any) -> Any:
    """A setting as the class has it: lists as tuples, and what was told of region vectors as `Crops`."""
    if isinstance(value, list):
        return tuple(map(_setting, value))
    if isinstance(value, dict) and value.get("extractor") == Crops.__name__:
        return Crops(**value["settings"])
    return value
