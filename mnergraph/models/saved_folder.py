"""The files of a saved model's folder, checked before anything is built from them: there, whole, and of one model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from mnergraph.data.json_settings import check_entries, read_json_object
from mnergraph.data.processor import PROCESSOR_CONFIG
from mnergraph.features.text.encoder import NAME_FILE
from mnergraph.features.text.word_embeddings import VOCABULARY_FILE
from mnergraph.graph.schema import Schema
from mnergraph.models.saved_0_1 import is_old
from mnergraph.quoting import MAX_CHARACTERS, listed, quoted

CONFIG, SCHEMA, WEIGHTS = "config.json", "schema.json", "model.safetensors"
ENCODER, NEAREST_WORDS, CARD = "encoder", "similar.safetensors", "README.md"
#: The drawing of the schema, which the card shows; loading a model reads neither.
SCHEMA_DRAWING = "schema.png"

_COMMON = {"settings": dict[str, Any], "labels": list[str], "encoder": str, "versions": dict[str, str]}
_ENTRIES = {"class": str, **_COMMON, "metadata": dict[str, Any], "files": dict[str, str | None]}
#: Entries of a config.json of version 0.1.
_ENTRIES_0_1 = {"model": str, **_COMMON, "record": dict[str, Any]}
_VOCABULARY = {"name": str, "width": int, "learned": int, "characters": str, "words": list[str]}
#: Entries of an encoder's settings by which transformers would fetch code of the hub and run it.
_CODE_ENTRIES = ("auto_map", "attn_implementation", "_attn_implementation", "experts_implementation")
_ADVICE = "copy or download the folder again, whole"
#: Relations of HamLearning and GVATT that were named otherwise, and their names.
_RENAMED_RELATIONS = {
    ("sentence", "weighs", "image"): "gates",
    ("object", "tells", "token"): "guides",
    ("token", "tells", "object"): "guides",
    ("image", "answers", "sentence"): "guides",
    ("sentence", "tells", "token"): "broadcasts",
}


def file_checksums(folder: Path) -> dict[str, str | None]:
    """Return the names of a model's files, with the SHA-256 of those whose content must stay the same, else None.

    Weights go with the very tokenizer and vocabulary that they were trained with; another one of the same size would
    give other predictions. Line ends do not count. Weights are checked otherwise, and settings may be edited.
    """
    paths = [folder / name for name in (WEIGHTS, SCHEMA, PROCESSOR_CONFIG, NEAREST_WORDS)]
    paths += sorted((folder / ENCODER).iterdir())
    names = [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
    return {name: _checksum(folder / name) if _is_fixed(name) else None for name in names}


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a model's ``config.json``, of this version or of 0.1.

    Raises:
        FileNotFoundError: when the folder has none.
        ValueError: when it is damaged, or another library's.
    """
    path = folder / CONFIG
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no {CONFIG}: it is no folder that save_pretrained wrote")
    config = read_json_object(path)
    old = is_old(config)
    if not old and not isinstance(config.get("class"), str):
        transformers = "; it is a model of transformers, whose encoder `train --encoder` and load_encoder take"
        other = transformers if "model_type" in config or "architectures" in config else ""
        raise ValueError(f"{path} names no class: it is no folder that save_pretrained wrote{other}")
    optional = ("encoder", "versions", "files")
    check_entries(config, _ENTRIES_0_1 if old else _ENTRIES, str(path), optional=optional)
    labels = config["labels"]
    if not labels or not all(labels):
        raise ValueError(f"{path} has {quoted(labels)} for labels; right is one label or more")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"{path} has {listed(twice)} twice among the labels")
    return config


def check_files(folder: Path, config: Mapping[str, Any]) -> None:
    """Check that all files are there that ``config.json`` lists, and that those with a checksum are the same.

    Raises:
        FileNotFoundError: for a file that is missing.
        OSError: for one that can't be read.
        ValueError: for one with other content, and for an encoder with code of its own.
    """
    for name, checksum in config.get("files", {}).items():
        path = folder / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{folder / CONFIG} lists the file {quoted(name)}, which leads out of {folder}")
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing, with which the model was saved; {_ADVICE}")
        if checksum is not None:
            _check_encoder_file(path)
            if _checksum(path) != checksum:
                raise ValueError(f"{path} is damaged, or not the one with which the model was saved; {_ADVICE}")
    encoder = folder / ENCODER
    if not encoder.is_dir():
        raise FileNotFoundError(f"{encoder} is missing; {_ADVICE}")
    if (encoder / VOCABULARY_FILE).exists():
        check_vocabulary(encoder / VOCABULARY_FILE)
        return
    # a list has the files of the tokenizer, which are others for a slow one
    of_tokenizer = () if "files" in config else ("tokenizer.json",)
    for name in ("config.json", "tokenizer_config.json", *of_tokenizer, NAME_FILE):
        _check_encoder_file(encoder / name)


def _check_encoder_file(path: Path) -> None:
    """Check that a file is there, not empty, JSON where it should be, and names no code of its own."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {_ADVICE}")
    if path.suffix == ".json" and path.name not in ("tokenizer.json", VOCABULARY_FILE):
        content = read_json_object(path)
        for entry in _CODE_ENTRIES:
            # of the implementations, names with a slash are repositories of the hub
            if entry in content and (entry == "auto_map" or "/" in str(content[entry])):
                raise ValueError(
                    f"{path} names code to be run ({entry}: {quoted(content[entry])}), which mnergraph does not run"
                )
        return
    with naming(path):
        if not path.stat().st_size:
            raise ValueError(f"{path} is empty")


def check_vocabulary(path: Path) -> None:
    """Check the vocabulary of word vectors.

    Raises:
        ValueError: when it is damaged.
    """
    content = read_json_object(path)
    check_entries(content, _VOCABULARY, str(path))
    rows = len(content["words"]) + 1
    if content["width"] < 1 or not 1 <= content["learned"] <= rows:
        raise ValueError(
            f"{path} has width {quoted(content['width'])} and {quoted(content['learned'])} learned rows; right is 1 or "
            f"more, and 1 to {rows}, one for each word and one for unknown words"
        )


def check_schema(folder: Path, schema: Schema) -> None:
    """Check that ``schema.json`` has the graph of the model that was built.

    Raises:
        ValueError: when it is damaged or has another graph, naming a relation that only one of the two has.
    """
    path = folder / SCHEMA
    saved = read_json_object(path)
    check_entries(saved, {"tags": str, "nodes": list[str], "relations": list[dict[str, Any]]}, str(path))
    with naming(path):
        here, there = _plain(schema), _plain(_with_new_names(Schema.from_dict(saved), schema))
    if here != there:
        differing = [key for key in here.keys() | there.keys() if here.get(key) != there.get(key)]
        raise ValueError(
            f"{path} is not the graph of the model that {CONFIG} describes: they differ in {listed(sorted(differing))}"
        )


def _with_new_names(saved: Schema, schema: Schema) -> Schema:
    """Return the saved schema with the names that the model's has for relations that were renamed."""
    relations = []
    for relation in saved:
        name = _RENAMED_RELATIONS.get(relation.key, relation.name)
        is_renamed = relation.key not in schema.relations and (relation.src, name, relation.dst) in schema.relations
        relations.append(replace(relation, name=name) if is_renamed else relation)
    return Schema(relations, nodes=saved.nodes, tags=saved.tags)


def _plain(schema: Schema) -> dict[str, Any]:
    """Return a schema as plain JSON data by name, so that order has no meaning."""
    data = json.loads(json.dumps(schema.to_dict()))
    relations = {f"({entry['src']}, {entry['name']}, {entry['dst']})": entry for entry in data["relations"]}
    return {"tags": data["tags"], "nodes": sorted(data["nodes"]), **relations}


@contextmanager
def naming(path: Path, what: str = "can't be used") -> Iterator[None]:
    """Within it any error is a ValueError of one line that names this file; errors that name it already are raised.

    Args:
        path: the file.
        what: what its fault is.
    """
    try:
        yield
    except ImportError:
        raise  # a package or module of the user's that is missing
    except Exception as error:
        line = " ".join(str(error).split())
        if isinstance(error, OSError | ValueError) and str(path) in line:
            raise
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        short = line if len(line) <= 2 * MAX_CHARACTERS else f"{line[: 2 * MAX_CHARACTERS]}..."
        raise ValueError(f"{path} {what}: {kind}{short or type(error).__name__}") from error


def _is_fixed(name: str) -> bool:
    return name == NEAREST_WORDS or name.startswith(f"{ENCODER}/")


def _checksum(path: Path) -> str:
    """Return the SHA-256 of a file; of text with the line ends of Unix."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OSError(f"{path} can't be read: {error.strerror}") from error
    text = path.suffix in (".json", ".txt", ".jinja")
    return hashlib.sha256(content.replace(b"\r\n", b"\n") if text else content).hexdigest()
