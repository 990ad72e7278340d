"""Models that version 0.1 saved: other names of arguments, booleans for ablations, other names of parameters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mnergraph.data.processor import ProcessorConfig
from mnergraph.models.registry import MODELS

_SPACY = "mnergraph.features.text.noun_chunks:SpacyChunker"
_RENAMED = {
    "image_width": "image_dim",
    "region_width": "region_dim",
    "character_width": "char_dim",
    "character_hidden": "char_hidden_size",
    "query": "query_size",
    "attention": "attention_size",
    "form": "variant",
    "heads": "num_heads",
    "layers": "num_layers",
    "width": "hidden_size",
    "rounds": "num_iterations",
    "semantic_layers": "num_vit_layers",
    "spatial_layers": "num_rgcn_layers",
}
_RENAMED_PARAMETERS = {
    "tasks.": "heads.",
    ".scorer.": ".decoder.",
    ".combine.": ".residual.",
    ".reader.": ".encoder.",
    ".module.seen.": ".module.visual.",
    ".module.told.": ".module.textual.",
}
#: The value that was an ablation, and its name.
_ABLATIONS: dict[str, tuple[Any, str]] = {
    "image_aware_words": (False, "w/o Image-Aware WR"),
    "visual_gate": (False, "w/o Visual Gate"),
    "targeted": (False, "w/o Tar."),
    "visual_correlation": (False, "w/o VCorr."),
    "independent": (False, "w/o Ind."),
    "entity_level_interaction": (False, "- Entity-level interaction"),
    "image_region": (True, "+ Image Region"),
    "text_obj": (False, "w/o TextObj"),
    "text_img": (False, "w/o TextImg"),
    "basic_level": (False, "w/o basic-level"),
    "super_level": (False, "w/o super-level"),
    "uni_text": (False, "w/o uni-text"),
    "uni_obj": (False, "w/o uni-obj"),
    "uni_img": (False, "w/o uni-img"),
    "rgcn": (False, "w/o RGCN"),
    "vit": (False, "w/o ViT"),
    "relevance": (False, "w/o RM"),
}


def is_old(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json is of version 0.1, which named a model without its module."""
    return "model" in config and "settings" in config


def convert_config(config: Mapping[str, Any], *, has_nearest_words: bool) -> dict[str, Any]:
    """Return the config.json of today for one of version 0.1.

    Raises:
        ValueError: for a model that is not of this package; version 0.1 did not save its module.
    """
    paths = {MODELS.path(name).rpartition(":")[2]: MODELS.path(name) for name in MODELS}
    model = config["model"]
    if model not in paths:
        raise ValueError(f"version 0.1 saved the model {model!r} without its module; known: {', '.join(paths)}")
    settings = dict(config["settings"])
    ablate = [name for key, (value, name) in _ABLATIONS.items() if settings.pop(key, not value) is value]
    if settings.pop("span_detection", True) is False:
        ablate.append("w/o ESD" if model == "MGCMT" else "- Span Detection")
    if model == "MGCMT" and not has_nearest_words:
        ablate.append("w/o SemAug")
    if "LSTM" in model or model in ("GVATT", "AdaCAN"):
        settings["hidden_size"] = settings.pop("hidden")
    elif "hidden" in settings:
        settings["intermediate_size"] = settings.pop("hidden")
    settings = {_RENAMED.get(key, key): value for key, value in settings.items()}
    if model == "UMT":
        _convert_variant(settings, ablate)
    if model == "UMGF":
        resnet, weights = settings.pop("resnet", None), settings.pop("resnet_weights", None)
        settings["resnet"] = {"name": resnet, "weights": weights} if resnet else None
        _convert_variant(settings, ablate)
    if model == "HamLearning":  # version 0.1 had no other centers
        settings["normalized_centers"] = False
    if model == "GEI":
        old = {"sampling_first": "start_epoch", "sampling_last": "end_epoch", "sampling_most": "max_ratio"}
        settings["scheduled_sampling"] = {new: settings.pop(key) for key, new in old.items()}
    if ablate:
        settings["ablate"] = sorted(ablate)
    rest = {key: value for key, value in config.items() if key not in ("model", "settings", "record")}
    return {**rest, "class": paths[model], "settings": settings, "metadata": config["record"]}


def processor_config(config: Mapping[str, Any]) -> ProcessorConfig | None:
    """Return the processor's settings, which version 0.1 kept in the metadata; None where there were none.

    Version 0.1 kept a chunker's class by its bare name, without settings: a spaCy chunker is made with the default
    model, with a warning.

    Raises:
        ValueError: for a chunker that is not of this package, with what to write instead, and for damaged settings.
    """
    evidence = config["metadata"].get("evidence")
    if evidence is None:
        return None
    name = evidence.get("chunker", "RuleChunker")
    chunker: dict[str, Any] | None = None
    if name == "SpacyChunker":
        warnings.warn("version 0.1 did not save the spaCy model of the noun chunker; the default is used", stacklevel=2)
        chunker = {"class": _SPACY, "settings": {}}
    elif ":" in name:
        chunker = {"class": name, "settings": {}}
    elif name != "RuleChunker":
        raise ValueError(
            f"version 0.1 saved the noun chunker {name!r} without its module; in the model's config.json write "
            f'"my_module:{name}" for it, under record, evidence, chunker'
        )
    saved = {
        "top_objects": evidence["top_objects"],
        "caption_phrases": evidence["caption_phrases"],
        "chunker": chunker,
        "regions": evidence["regions"],
        "image_nodes": evidence["image"],
        "stores": evidence["stores"],
    }
    return ProcessorConfig.from_dict(saved, "record.evidence")


def _convert_variant(settings: dict[str, Any], ablate: list[str]) -> None:
    """Move into the variant what was an argument, in place; ``conversion_matrix`` "none" was an ablation."""
    from mnergraph.models import umt
    from mnergraph.models.umgf import model as umgf

    module = umgf if "resnet" in settings else umt
    named = {"paper": module.PAPER, "released": module.RELEASED}[settings["variant"]]
    key = "intermediate_size" if "resnet" in settings else "conversion_matrix"
    value = settings.pop(key, None)
    if value == "none":
        ablate.append("w/o Conversion Matrix")
    elif value is not None:
        settings["variant"] = asdict(named) | {key: value}


def parameter_name(name: str) -> str:
    """Return today's name of a parameter of version 0.1."""
    for old, new in _RENAMED_PARAMETERS.items():
        name = name.replace(old, new)
    return name
