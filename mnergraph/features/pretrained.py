"""Where weights come from: a hub, a folder, a file, or nobody, and then they are called random."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging as hf_logging

from mnergraph.features.text.encoder import without_bars

#: Stands where weights are wanted that nobody trained.
RANDOM: Final = "random"


#: Torchvision's published weights: its newest of a classifier, and of a detector.
IMAGENET, COCO = "imagenet", "coco"


#: Stands for the weights that a hub or a folder has for a model of transformers.
PRETRAINED: Final = "pretrained"


_to_come = ContextVar("to_come", default=False)


def from_torchvision(
    name: str,
    weights: str,
    build: Callable[..., nn.Module],
    *,
    published: str,
    seed: int = 0,
    head: str | None = None,
) -> nn.Module:
    """A network of torchvision with these weights, in evaluation mode and frozen.

    Args:
        name: torchvision's name of it.
        weights: ``random``, the word for the published ones, the name of some of the published ones
            (``IMAGENET1K_V1``), or the path of a state dict.
        build: makes it, given published ``weights`` or None.
        published: the word for torchvision's newest published weights.
        seed: of random weights.
        head: prefix of the weights of a classifier that is taken off; a file may hold them or not.

    Raises:
        OSError: when the weights are not to be had; the message says how to get them.
        ValueError: when a file's weights are not those of this network.
    """
    import torchvision

    weights = RANDOM if _to_come.get() else weights
    kinds = torchvision.models.get_model_weights(name)
    if weights == published or weights in kinds.__members__:
        chosen = kinds.DEFAULT if weights == published else kinds[weights]
        try:
            net = build(weights=chosen)
        except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: a checksum that is wrong
            raise OSError(
                f"the weights of {name} are not here and could not be downloaded ({error}): "
                f"fetch {chosen.url} and give its path as weights, or weights='random' to try things out"
            ) from error
    else:
        if weights != RANDOM and not Path(weights).is_file():
            raise FileNotFoundError(
                f"weights={weights!r} is neither {RANDOM!r}, {published!r} nor a file of weights; "
                f"torchvision has {', '.join(kind.name for kind in kinds)} of {name}, "
                f"the newest at {kinds.DEFAULT.url}"
            )
        with seeded(seed):
            net = build(weights=None)
        if weights != RANDOM:
            _load(net, Path(weights), name, head)
    if head is not None:
        setattr(net, head, nn.Identity())
    return net.eval().requires_grad_(False)


def from_transformers(
    kind: Any, name: str, weights: str, *, what: str, seed: int = 0, spare: tuple[str, ...] = ()
) -> PreTrainedModel:
    """A model of transformers by hub name or folder, in evaluation mode and frozen.

    Args:
        kind: an Auto class.
        name: hub name or folder; random weights need its ``config.json`` alone.
        weights: ``pretrained`` or ``random``.
        what: what it is, for messages.
        seed: of random weights.
        spare: parts that it can do without: one that the weights found lack is taken off.

    Raises:
        OSError: when it is neither a folder nor to be had from the hub; the message says what to do.
        ValueError: when the weights found are not all of the model's.
    """
    if weights not in (PRETRAINED, RANDOM):
        raise ValueError(f"weights={weights!r} of {name}; right is {PRETRAINED!r} or {RANDOM!r}")
    missing: list[str] = []
    try:
        if weights == RANDOM:
            with seeded(seed):
                model = kind.from_config(AutoConfig.from_pretrained(name))
        else:
            with without_bars(), _without_report():
                model, told = kind.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
            for part in spare:
                if any(key.startswith(f"{part}.") for key in told["missing_keys"]):
                    setattr(model, part, None)
            missing = sorted(key for key in told["missing_keys"] if key.split(".")[0] not in spare)
    except (OSError, ValueError) as error:
        raise OSError(
            f"no {what} at {name!r}: give the name of one on the Hugging Face hub while online, or a "
            "folder with its config.json, model.safetensors and preprocessor_config.json; weights='random' "
            f"needs no model.safetensors and says so in its name ({error})"
        ) from error
    if missing:
        raise ValueError(
            f"{name} has no weights for {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}: "
            f"it is no {what}, or not whole"
        )
    return model.eval().requires_grad_(False)


def checksum(net: nn.Module) -> str:
    """SHA-256 of all weights and buffers by name: the same for the same weights, wherever they lie."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def display_name(name: str) -> str:
    """A hub name as it is; of a folder or file its own name, so that what was moved keeps it."""
    path = Path(name)
    return path.resolve().name if path.is_dir() else path.stem if path.is_file() else name


def named_weights(weights: str, seed: int) -> str:
    """What torchvision's weights are called in names; random ones tell their seed."""
    return f"{RANDOM}-seed{seed}" if weights == RANDOM else display_name(weights)


@contextmanager
def skip_pretrained() -> Iterator[None]:
    """Inside, networks of torchvision are built with any weights, as others will be loaded into them."""
    token = _to_come.set(True)
    try:
        yield
    finally:
        _to_come.reset(token)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random state of this seed inside, and as it was outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _without_report() -> Iterator[None]:
    """Without transformers' table of missing and surplus weights, of which we make errors ourselves."""
    level = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)


def _load(net: nn.Module, path: Path, name: str, head: str | None) -> None:
    """Gives a network the weights of a file, those of its head left out where it will lose it."""
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        if head is None:
            net.load_state_dict(state)
            return
        body = {key: value for key, value in state.items() if not key.startswith(f"{head}.")}
        missing, surplus = net.load_state_dict(body, strict=False)
        wrong = [key for key in (*missing, *surplus) if not key.startswith(f"{head}.")]
        if wrong:
            raise ValueError(f"missing or surplus: {', '.join(wrong[:5])}")
    except Exception as error:  # whatever a file that is something else makes its reader raise
        raise ValueError(
            f"weights={str(path)!r} are not those of {name}: right is the state dict of torchvision's "
            f"{name}, as .safetensors or .pth ({str(error).strip().splitlines()[0]})"
        ) from error


def named(model: str, weights: str, seed: int) -> str:
    """What a model is called in folders and records; where its weights are random, it says so."""
    return display_name(model).replace("/", "--") + (f"-random-seed{seed}" if weights == RANDOM else "")


def processor(kind: Any, model: str) -> Any:
    """The processor of a model of transformers, by hub name or folder.

    Args:
        kind: AutoImageProcessor or AutoProcessor.
        model: hub name or folder.

    Raises:
        OSError: when it is not there; the message names the files that are wanted.
    """
    try:
        return kind.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise OSError(
            f"no {kind.__name__} for {model!r}: beside the model lie preprocessor_config.json or "
            f"processor_config.json and, where it reads or writes text, its tokenizer's files ({error})"
        ) from error


def pixel_tensors(processor: Any, picture: Image.Image) -> dict[str, Tensor]:
    """One picture as the model's image processor makes it; the mask only where there is something to mask."""
    made = processor(images=picture, return_tensors="pt")
    wanted = {"pixel_values": made["pixel_values"][0]}
    mask = made.get("pixel_mask")
    return wanted if mask is None or mask.all() else {**wanted, "pixel_mask": mask[0]}


def facts(processor: Any) -> dict[str, Any]:
    """What a processor does to a picture, as plain JSON."""
    return json.loads(getattr(processor, "image_processor", processor).to_json_string())
