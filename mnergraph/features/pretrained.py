"""Load networks of torchvision and transformers with pretrained or random weights."""

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

from mnergraph.features.text.encoder import without_progress_bars

#: Value of ``weights`` for random initialization.
RANDOM: Final = "random"


#: Values of ``weights`` for torchvision's newest published weights of a classifier and of a detector.
IMAGENET, COCO = "imagenet", "coco"


#: Value of ``weights`` for the checkpoint of a hub name or folder of transformers.
PRETRAINED: Final = "pretrained"


_skip_pretrained = ContextVar("to_come", default=False)


def from_torchvision(
    name: str,
    weights: str,
    build: Callable[..., nn.Module],
    *,
    published_alias: str,
    seed: int = 0,
    head: str | None = None,
) -> nn.Module:
    """Return a torchvision network with these weights, in evaluation mode and frozen.

    Args:
        name: torchvision's name of the network.
        weights: ``random``, the value of ``published_alias``, the name of published weights (``IMAGENET1K_V1``), or
            the path of a state dict.
        build: constructor, called with ``weights``: published weights or None.
        published_alias: value of ``weights`` that selects torchvision's newest published weights.
        seed: of random weights.
        head: name of the classifier, which is replaced by an identity; a file may hold its weights or not.

    Raises:
        OSError: when the weights are not available; the message says how to get them.
        ValueError: when a file's weights are not those of this network.
    """
    import torchvision

    weights = RANDOM if _skip_pretrained.get() else weights
    kinds = torchvision.models.get_model_weights(name)
    if weights == published_alias or weights in kinds.__members__:
        chosen = kinds.DEFAULT if weights == published_alias else kinds[weights]
        try:
            net = build(weights=chosen)
        except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: wrong checksum
            raise OSError(
                f"the weights of {name} are not here and could not be downloaded ({error}): "
                f"fetch {chosen.url} and give its path as weights, or weights='random' to try things out"
            ) from error
    else:
        if weights != RANDOM and not Path(weights).is_file():
            raise FileNotFoundError(
                f"weights={weights!r} is neither {RANDOM!r}, {published_alias!r} nor a file of weights; "
                f"torchvision has {', '.join(kind.name for kind in kinds)} of {name}, "
                f"the newest at {kinds.DEFAULT.url}"
            )
        with seeded(seed):
            net = build(weights=None)
        if weights != RANDOM:
            _load_state_dict(net, Path(weights), name, head)
    if head is not None:
        setattr(net, head, nn.Identity())
    return net.eval().requires_grad_(False)


def from_transformers(
    auto_class: Any, name: str, weights: str, *, description: str, seed: int = 0, optional_parts: tuple[str, ...] = ()
) -> PreTrainedModel:
    """Return a model of transformers by hub name or folder, in evaluation mode and frozen.

    Args:
        auto_class: an Auto class.
        name: hub name or folder; random weights need its ``config.json`` alone.
        weights: ``pretrained`` or ``random``.
        description: what it is, for messages.
        seed: of random weights.
        optional_parts: optional submodules; removed if the checkpoint has no weights for them.

    Raises:
        OSError: when it is neither a folder nor available from the hub; the message says what to give.
        ValueError: when the checkpoint lacks weights of the model.
    """
    if weights not in (PRETRAINED, RANDOM):
        raise ValueError(f"weights={weights!r} of {name}; right is {PRETRAINED!r} or {RANDOM!r}")
    missing: list[str] = []
    try:
        if weights == RANDOM:
            with seeded(seed):
                config = AutoConfig.from_pretrained(name, trust_remote_code=False)
                model = auto_class.from_config(config, trust_remote_code=False)
        else:
            with without_progress_bars(), _without_loading_report():
                model, loading_info = auto_class.from_pretrained(
                    name, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
                )
            for part in optional_parts:
                if any(key.startswith(f"{part}.") for key in loading_info["missing_keys"]):
                    setattr(model, part, None)
            missing = sorted(key for key in loading_info["missing_keys"] if key.split(".")[0] not in optional_parts)
    except (OSError, ValueError) as error:
        raise OSError(
            f"no {description} at {name!r}: give the name of one on the Hugging Face hub while online, or a "
            "folder with its config.json, model.safetensors and preprocessor_config.json; weights='random' "
            f"needs no model.safetensors and says so in its name ({error})"
        ) from error
    if missing:
        raise ValueError(
            f"{name} has no weights for {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}: "
            f"it is no {description}, or not whole"
        )
    return model.eval().requires_grad_(False)


def state_dict_sha256(net: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers with their names; independent of the device."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def display_name(name: str) -> str:
    """Return a hub name unchanged, and of a path its last part, which stays the same when the file is moved."""
    path = Path(name)
    return path.resolve().name if path.is_dir() else path.stem if path.is_file() else name


def weights_name(weights: str, seed: int) -> str:
    """Return the name of torchvision weights, with the seed for random ones."""
    return f"{RANDOM}-seed{seed}" if weights == RANDOM else display_name(weights)


@contextmanager
def skip_pretrained() -> Iterator[None]:
    """Build torchvision networks without loading weights, since a checkpoint will be loaded into them."""
    token = _skip_pretrained.set(True)
    try:
        yield
    finally:
        _skip_pretrained.reset(token)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random state within the context; it is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _without_loading_report() -> Iterator[None]:
    """Silence transformers' report of missing and unexpected weights, which are errors here."""
    level = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)


def _load_state_dict(net: nn.Module, path: Path, name: str, head: str | None) -> None:
    """Load the weights of a file, without those of the head if it is removed."""
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
    except Exception as error:  # the readers raise many types for other files
        raise ValueError(
            f"weights={str(path)!r} are not those of {name}: right is the state dict of torchvision's "
            f"{name}, as .safetensors or .pth ({str(error).strip().splitlines()[0]})"
        ) from error


def name_with_weights(model: str, weights: str, seed: int) -> str:
    """Return the name of a model for folders and metadata; it contains the seed of random weights."""
    return display_name(model).replace("/", "--") + (f"-random-seed{seed}" if weights == RANDOM else "")


def load_processor(auto_class: Any, model: str) -> Any:
    """Load the processor of a model of transformers by hub name or folder.

    Args:
        auto_class: AutoImageProcessor or AutoProcessor.
        model: hub name or folder.

    Raises:
        OSError: when it is not available; the message names the files that are needed.
    """
    try:
        return auto_class.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise OSError(
            f"no {auto_class.__name__} for {model!r}: beside the model lie preprocessor_config.json or "
            f"processor_config.json and, where it reads or writes text, its tokenizer's files ({error})"
        ) from error


def pixel_tensors(processor: Any, image: Image.Image) -> dict[str, Tensor]:
    """Return the pixel tensor of one image, and its mask if anything is masked."""
    made = processor(images=image, return_tensors="pt")
    wanted = {"pixel_values": made["pixel_values"][0]}
    mask = made.get("pixel_mask")
    return wanted if mask is None or mask.all() else {**wanted, "pixel_mask": mask[0]}


def processor_settings(processor: Any) -> dict[str, Any]:
    """Return the settings of an image processor as plain JSON data."""
    return json.loads(getattr(processor, "image_processor", processor).to_json_string())
