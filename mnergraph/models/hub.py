"""Models on disk: the weights as safetensors, and beside them all that builds the model again."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData, snapshot_download
from safetensors.torch import load_model, save_model

from mnergraph.data.processor import PROCESSOR_CONFIG, ProcessorConfig
from mnergraph.features.pretrained import skip_pretrained
from mnergraph.features.text.encoder import encoder_from_config
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.labels import LabelSet

if TYPE_CHECKING:
    from mnergraph.models.base import Tagger
if TYPE_CHECKING:
    from mnergraph.models.base import Tagger

_TEMPLATE = """\
---
{metadata}
---

# {name}

{summary}

- text encoder: {encoder}
- labels: {labels}
- settings: {settings}

## Graph

```
{schema}
```

## Data

{data}

## Evidence of images

{evidence}

## Scores

{scores}

## Use

```python
import mnergraph

model = mnergraph.load("this folder or its name on the hub")
pair = mnergraph.Pair(words=("Thousands", "march", "through", "Paris"))
print(model.predict([pair]))
```
"""


def model_card(model: Tagger) -> ModelCard:
    """A card with the model's graph, label set, data and scores, as far as its record knows them."""
    record = model.metadata
    data = ModelCardData(library_name="mnergraph", tags=["multimodal-named-entity-recognition", "torch-geometric"])
    facts = "\n".join(f"- {key}: {value}" for key, value in record.get("data", {}).items())
    tables = [f"### {split}\n\n{table}" for split, table in record.get("tables", {}).items()]
    return ModelCard(
        _TEMPLATE.format(
            metadata=data.to_yaml(),
            name=type(model).__name__,
            summary=(inspect.getdoc(type(model)) or "").partition("\n\n")[0],
            encoder=model.encoder.name,
            labels=", ".join(model.labels.tags),
            settings=", ".join(f"{key}={value!r}" for key, value in model.hparams().items()) or "the defaults",
            schema=model.schema,
            data=facts or "Not recorded.",
            evidence="Not recorded." if model.processor_config is None else model.processor_config.describe(),
            scores="\n\n".join(tables) or "Not recorded.",
        )
    )


CONFIG, SCHEMA, WEIGHTS = "config.json", "schema.json", "model.safetensors"


ENCODER, SIMILAR, CARD = "encoder", "similar.safetensors", "README.md"


#: Packages whose versions a saved model names.
PACKAGES = ("mnergraph", "torch", "torch-geometric", "transformers")


def save(model: Tagger, folder: Path) -> None:
    """Writes a model into a folder, over what was there of another."""
    save_model(model, str(folder / WEIGHTS))
    model.encoder.save(folder / ENCODER)
    (folder / SIMILAR).unlink(missing_ok=True)
    if model.nearest_words is not None:
        model.nearest_words.save(folder / SIMILAR)
    _write_json(folder / SCHEMA, model.schema.to_dict())
    config = {
        "model": type(model).__name__,
        "settings": model.hparams(),
        "labels": list(model.labels.tags),
        "encoder": model.encoder.name,
        "versions": {name: version(name) for name in PACKAGES},
        "record": model.metadata,
    }
    _write_json(folder / CONFIG, config)
    (folder / PROCESSOR_CONFIG).unlink(missing_ok=True)
    if model.processor_config is not None:
        model.processor_config.save_pretrained(folder)
    (folder / CARD).unlink(missing_ok=True)  # `ModelHubMixin` writes a card only where there is none


def folder_of(name: str | Path, **how: Any) -> Path:
    """The folder of this name, or that of the hub's model of this name, downloaded.

    Args:
        name: of the folder or model.
        how: of the download, as `huggingface_hub.snapshot_download` takes it.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(str(name), **how))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"no model at {str(name)!r}: it is no folder here, and the hub did not give it ({error})"
        ) from error


def load_saved(folder: Path, wanted: type[Tagger], known: Mapping[str, type[Tagger]]) -> Tagger:
    """The model of a folder that `save` wrote, in evaluation mode.

    Args:
        folder: the folder.
        wanted: what it must be.
        known: the models there are, by the names of their classes.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {CONFIG}: it is no folder that save_pretrained wrote")
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model") not in known:
        raise ValueError(f"{path}: model {config.get('model')!r} is not known; known: {', '.join(sorted(known))}")
    kind = known[config["model"]]
    if not issubclass(kind, wanted):
        raise ValueError(f"{path} is a {kind.__name__}, not a {wanted.__name__}")
    settings, labels = config["settings"], LabelSet(tuple(config["labels"]))
    if (folder / SIMILAR).is_file():
        settings["nearest_words"] = NearestWords.load(folder / SIMILAR)
    with skip_pretrained():
        model = kind(encoder=encoder_from_config(folder / ENCODER), labels=labels, **settings)
    load_model(model, folder / WEIGHTS, strict=True)
    model.metadata = config["record"]
    model.processor_config = ProcessorConfig.from_pretrained(folder)
    return model.eval()


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
