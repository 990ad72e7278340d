"""Models on disk: the weights as safetensors, and in the same folder all that builds the model again."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData, snapshot_download
from safetensors.torch import load_model, save_model

from mnergraph.data.processor import PROCESSOR_CONFIG, ProcessorConfig
from mnergraph.features.pretrained import skip_pretrained
from mnergraph.features.text.encoder import encoder_from_config
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.files import replacing_entries, tensor_file_errors
from mnergraph.labels import LabelSet
from mnergraph.models import saved_0_1
from mnergraph.models.init_arguments import from_plain, to_plain

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
    """Return a card with the model's graph, label set, data and scores, as far as its metadata has them."""
    metadata = model.metadata
    data = ModelCardData(library_name="mnergraph", tags=["multimodal-named-entity-recognition", "torch-geometric"])
    facts = "\n".join(f"- {key}: {value}" for key, value in metadata.get("data", {}).items())
    tables = [f"### {split}\n\n{table}" for split, table in metadata.get("tables", {}).items()]
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
ENCODER, NEAREST_WORDS = "encoder", "similar.safetensors"
#: Packages whose versions a saved model records.
PACKAGES = ("mnergraph", "torch", "torch-geometric", "transformers")


def save(model: Tagger, folder: Path) -> None:
    """Write a model into an empty folder.

    Raises:
        ValueError: for a constructor argument that cannot be saved, before anything is written.
        OSError: when the disk is full.
    """
    settings = model.hparams()
    from_plain(type(model), settings)
    config = {
        "class": qualified_name(type(model)),
        "settings": settings,
        "labels": list(model.labels.tags),
        "encoder": model.encoder.name,
        "versions": {name: version(name) for name in PACKAGES},
        "metadata": model.metadata,
    }
    with tensor_file_errors(folder / WEIGHTS):
        save_model(model, str(folder / WEIGHTS))
    model.encoder.save(folder / ENCODER)
    if model.nearest_words is not None:
        model.nearest_words.save(folder / NEAREST_WORDS)
    _write_json(folder / SCHEMA, model.schema.to_dict())
    _write_json(folder / CONFIG, config)
    if model.processor_config is not None:
        model.processor_config.save_pretrained(folder)


@contextmanager
def replacing_model(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, whose model replaces the one in ``folder`` when the block ends; other files stay.

    If the block or the disk fails, the model in ``folder`` stays as it was.
    """
    with replacing_entries(folder) as unfinished:
        yield unfinished
        written = {path.name for path in unfinished.iterdir()}
    for name in {NEAREST_WORDS, PROCESSOR_CONFIG} - written:
        (folder / name).unlink(missing_ok=True)


def model_settings(model: Tagger) -> dict[str, Any]:
    """Return the constructor's arguments as plain JSON values, without encoder, labels and nearest words.

    Raises:
        ValueError: for one that cannot be saved, naming it, its type and what to do.
    """
    return to_plain(type(model), model.init_arguments)


def folder_of(name: str | Path, **options: Any) -> Path:
    """Return the folder of this name, or download the hub's model of this name and return its folder.

    Args:
        name: of the folder or model.
        options: of the download, as `huggingface_hub.snapshot_download` takes them.

    Raises:
        FileNotFoundError: when there is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(str(name), **options))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"no model at {str(name)!r}: it is no folder here, and the hub did not give it ({error})"
        ) from error


def load_saved(folder: Path, base: type[Tagger]) -> Tagger:
    """Return the model of a folder that `save` wrote, in evaluation mode.

    Args:
        folder: the folder; those of version 0.1 are converted.
        base: the class that the model must be of.

    Raises:
        FileNotFoundError: when the folder has no model.
        ValueError: when its class cannot be found, or is not one of ``base``.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {CONFIG}: it is no folder that save_pretrained wrote")
    config = json.loads(path.read_text(encoding="utf-8"))
    has_nearest_words = (folder / NEAREST_WORDS).is_file()
    old = saved_0_1.is_old(config)
    if old:
        config = saved_0_1.convert_config(config, has_nearest_words=has_nearest_words)
    cls = _find_class(config.get("class"), path)
    if not issubclass(cls, base):
        raise ValueError(f"{path} is a {cls.__name__}, not a {base.__name__}")
    settings, labels = from_plain(cls, config["settings"]), LabelSet(tuple(config["labels"]))
    if has_nearest_words:
        settings["nearest_words"] = NearestWords.load(folder / NEAREST_WORDS)
    with skip_pretrained():
        model = cls(encoder=encoder_from_config(folder / ENCODER), labels=labels, **settings)
    if old:
        saved_0_1.load_weights(model, folder / WEIGHTS)
    else:
        load_model(model, folder / WEIGHTS, strict=True)
    model.metadata = config["metadata"]
    model.processor_config = saved_0_1.processor_config(config) if old else ProcessorConfig.from_pretrained(folder)
    return model.eval()


def qualified_name(cls: type) -> str:
    """Return ``"package.module:Class"``, by which a saved model names its class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _find_class(name: object, path: Path) -> type[Tagger]:
    """Return the model class of this qualified name: imported, or defined already in this process."""
    from mnergraph.models.base import Tagger

    if not isinstance(name, str) or ":" not in name:
        raise ValueError(f"{path} names no class: it is no folder that save_pretrained wrote")
    module, _, qualname = name.partition(":")
    try:
        found: Any = sys.modules.get(module) or import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        # a class made in a function is no attribute of its module
        defined = [cls for cls in _subclasses(Tagger) if qualified_name(cls) == name]
        if len(defined) > 1:
            raise ValueError(f"{path}: {len(defined)} classes are named {name}; give each a name of its own") from None
        if not defined:
            raise ValueError(
                f"{path}: the model's class {name} can't be imported; put the folder of {module.partition('.')[0]} "
                "on the path (PYTHONPATH), or import the module before loading"
            ) from None
        found = defined[0]
    if not (isinstance(found, type) and issubclass(found, Tagger)):
        raise ValueError(f"{path}: {name} is no Tagger")
    return found


def _subclasses(base: type[Tagger]) -> list[type[Tagger]]:
    return [cls for child in base.__subclasses__() for cls in (child, *_subclasses(child))]


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
