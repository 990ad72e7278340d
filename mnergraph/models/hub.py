"""Models on disk: the weights as safetensors, and in the same folder all that builds the model again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import snapshot_download

from mnergraph.data.processor import PROCESSOR_CONFIG, ProcessorConfig
from mnergraph.features.pretrained import skip_pretrained
from mnergraph.features.text.encoder import encoder_from_config
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.files import replacing_entries, tensor_file_errors
from mnergraph.labels import LabelSet
from mnergraph.models import saved_0_1
from mnergraph.models.card import draw_schema
from mnergraph.models.init_arguments import from_plain, to_plain
from mnergraph.models.saved_folder import (
    CONFIG,
    ENCODER,
    NEAREST_WORDS,
    SCHEMA,
    SCHEMA_DRAWING,
    WEIGHTS,
    check_files,
    check_schema,
    file_checksums,
    naming,
    read_config,
)
from mnergraph.models.weights_file import WeightsFile, save_weights
from mnergraph.quoting import MAX_CHARACTERS, listed, quoted

if TYPE_CHECKING:
    from mnergraph.models.base import Tagger

#: Packages whose versions a saved model records.
PACKAGES = ("mnergraph", "torch", "torch-geometric", "transformers")


def save(model: Tagger, folder: Path) -> None:
    """Write a model into an empty folder.

    Raises:
        ValueError: for a constructor argument that cannot be saved, and for weights that are not finite, before
            anything is written.
        OSError: when the disk is full.
    """
    settings = model.hparams()
    from_plain(type(model), settings)
    with tensor_file_errors(folder / WEIGHTS):
        save_weights(model, folder / WEIGHTS, model.labels)
    model.encoder.save(folder / ENCODER)
    if model.nearest_words is not None:
        model.nearest_words.save(folder / NEAREST_WORDS)
    _write_json(folder / SCHEMA, model.schema.to_dict())
    (folder / SCHEMA_DRAWING).write_bytes(draw_schema(model.schema))
    if model.processor_config is not None:
        model.processor_config.save_pretrained(folder)
    config = {
        "class": qualified_name(type(model)),
        "settings": settings,
        "labels": list(model.labels.tags),
        "encoder": model.encoder.name,
        "versions": {name: version(name) for name in PACKAGES},
        "metadata": model.metadata,
        "files": file_checksums(folder),
    }
    _write_json(folder / CONFIG, config)


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
        NotADirectoryError: when it is a file.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        raise NotADirectoryError(f"{path} is a file; give the folder that save_pretrained wrote")
    try:
        return Path(snapshot_download(str(name), **options))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"no model at {str(name)!r}: it is no folder here, and the hub did not give it ({error})"
        ) from error


def load_saved(folder: Path, base: type[Tagger]) -> Tagger:
    """Return the model of a folder that `save` wrote, in evaluation mode.

    Its files are checked first, and no more is allocated than the weights take.

    Args:
        folder: the folder; those of version 0.1 are converted.
        base: the class that the model must be of.

    Raises:
        FileNotFoundError: when the folder has no model, or lacks a file of it.
        OSError: when a file can't be read.
        ValueError: when its class cannot be found, or is not one of ``base``; when a file is damaged, or not of this
            model. The message names the file.
    """
    path = folder / CONFIG
    config = read_config(folder)
    old = saved_0_1.is_old(config)
    has_nearest_words = (folder / NEAREST_WORDS).is_file()
    if old:
        with naming(path):
            config = saved_0_1.convert_config(config, has_nearest_words=has_nearest_words)
    cls = _find_class(config["class"], path)
    if not issubclass(cls, base):
        raise ValueError(f"{path} is a {cls.__name__}, not a {base.__name__}")
    check_files(folder, config)
    weights = WeightsFile(folder / WEIGHTS, saved_0_1.parameter_name if old else str)
    if weights.labels not in (None, config["labels"]):
        raise ValueError(
            f"{path} has the labels {listed(config['labels'])}, and {WEIGHTS} was saved with {listed(weights.labels)}"
        )
    with naming(path):
        settings, labels = from_plain(cls, config["settings"]), LabelSet(tuple(config["labels"]))
    if has_nearest_words:
        settings["nearest_words"] = NearestWords.load(folder / NEAREST_WORDS)
    with skip_pretrained(), weights.limited():
        encoder = encoder_from_config(folder / ENCODER)
        with naming(path):
            model = cls(encoder=encoder, labels=labels, **settings)
    weights.load_into(model)
    if not old:
        check_schema(folder, model.schema)
    model.metadata = config["metadata"]
    with naming(path if old else folder / PROCESSOR_CONFIG):
        model.processor_config = saved_0_1.processor_config(config) if old else ProcessorConfig.from_pretrained(folder)
    return model.eval()


def qualified_name(cls: type) -> str:
    """Return ``"package.module:Class"``, by which a saved model names its class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _find_class(name: object, path: Path) -> type[Tagger]:
    """Return the model class of this qualified name: imported, or defined already in this process."""
    from mnergraph.models.base import Tagger

    if not isinstance(name, str) or not all(name.partition(":")) or len(name) > MAX_CHARACTERS:
        raise ValueError(f"{path} has {quoted(name)} for a class; right is package.module:Class")
    module, _, qualname = name.partition(":")
    try:
        found: Any = sys.modules.get(module) or import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # a module of any name may raise anything when it is imported
        # a class made in a function is no attribute of its module
        defined = [cls for cls in _subclasses(Tagger) if qualified_name(cls) == name]
        if len(defined) > 1:
            raise ValueError(f"{path}: {len(defined)} classes are named {name}; give each a name of its own") from None
        if not defined:
            raise ValueError(
                f"{path}: the model's class {name} can't be imported; put the folder of {module.partition('.')[0]} "
                f"on the path (PYTHONPATH), or import the module before loading ({' '.join(str(error).split())})"
            ) from error
        found = defined[0]
    if not (isinstance(found, type) and issubclass(found, Tagger)):
        raise ValueError(f"{path}: {name} is no Tagger")
    return found


def _subclasses(base: type[Tagger]) -> list[type[Tagger]]:
    return [cls for child in base.__subclasses__() for cls in (child, *_subclasses(child))]


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
