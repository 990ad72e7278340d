"""The file of a model's weights: held against the model before they are loaded, and against its size as it is built."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mnergraph.labels import LabelSet
from mnergraph.quoting import listed, quoted

#: The entry of the file's header in which the labels are, in the order of the head's rows.
LABELS = "labels"
#: How many values, and how many tensors, building a model may create beyond `SLACK_FACTOR` times those of its file:
#: classifiers that a backbone is built with and that are then taken off, what initial weights are computed from, and
#: tables that are not saved.
SLACK_VALUES, SLACK_TENSORS, SLACK_FACTOR = 50_000_000, 5_000, 2


def save_weights(model: nn.Module, path: Path, labels: LabelSet) -> None:
    """Write a model's weights as safetensors, with the labels that the rows of its head stand for.

    Raises:
        ValueError: for a tensor with values that are not finite, naming it, before anything is written.
    """
    check_finite(model.state_dict(), "the model")
    save_model(model, str(path), metadata={LABELS: json.dumps(labels.tags)})


class WeightsFile:
    """The header of a file that `save_weights` wrote; the weights are read by `load_into`.

    Args:
        path: the file.
        rename: maps a tensor's name in the file to its name in the model.

    Attributes:
        shapes: of every tensor, by its name in the model.
        labels: the labels that the file was written with; None in files of version 0.1.

    Raises:
        FileNotFoundError: when there is no such file.
        OSError: when it can't be read.
        ValueError: when it is empty, cut off or no safetensors file.
    """

    def __init__(self, path: Path, rename: Callable[[str], str] = str) -> None:
        self.path, self.rename = path, rename
        with self._opened() as file:
            self.shapes = {rename(name): tuple(file.get_slice(name).get_shape()) for name in file.offset_keys()}
            metadata = file.metadata() or {}
        self.labels: list[str] | None = None
        if LABELS in metadata:
            try:
                self.labels = list(json.loads(metadata[LABELS]))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path} has {quoted(metadata[LABELS])} for labels: {error}") from None

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path} is missing")
        if not self.path.is_file():
            raise ValueError(f"{self.path} is no file")
        try:
            with self.path.open("rb") as opened:  # safetensors calls a file missing that may not be read
                if not opened.read(1):
                    raise ValueError(f"{self.path} is empty")
            with safe_open(self.path, framework="pt") as file:
                yield file
        except SafetensorError as error:
            raise ValueError(f"{self.path} is no safetensors file, or cut off: {error}") from error
        except OSError as error:
            raise OSError(f"{self.path} can't be read: {error.strerror or error}") from error

    @property
    def num_values(self) -> int:
        """Number of values in all tensors."""
        return sum(map(prod, self.shapes.values()))

    def limited(self) -> AllocationLimit:
        """Return a context in which as many tensors and values may be created as a model of this file needs."""
        values, tensors = SLACK_FACTOR * self.num_values, SLACK_FACTOR * len(self.shapes)
        reason = f"{self.path.name} has {self.num_values:,} in {len(self.shapes)} tensors"
        return AllocationLimit(values + SLACK_VALUES, tensors + SLACK_TENSORS, reason)

    def load_into(self, model: nn.Module) -> None:
        """Load the weights into a model, in its precision.

        Raises:
            ValueError: when a tensor is missing, unknown, of another shape or type, or not finite; names the tensors.
        """
        expected = model.state_dict()
        self._check_shapes(expected)
        with self._opened() as file:
            found = {self.rename(name): file.get_tensor(name) for name in file.offset_keys()}
            self._check_types(found, expected)
            check_finite(found, str(self.path))
            model.load_state_dict(found, strict=False)

    def _check_shapes(self, expected: Mapping[str, Tensor]) -> None:
        # of tensors that share their values the file has one
        stored = {_values(expected[name]) for name in self.shapes if name in expected}
        missing = [name for name, value in expected.items() if name not in self.shapes and _values(value) not in stored]
        if missing:
            raise ValueError(f"{self.path} lacks weights of the model that {_SETTINGS} describe: {listed(missing)}")
        unknown = [name for name in self.shapes if name not in expected]
        if unknown:
            raise ValueError(f"{self.path} has weights that no part of the model takes: {listed(unknown)}")
        for name, shape in self.shapes.items():
            right = tuple(expected[name].shape)
            if shape != right:
                raise ValueError(f"{self.path}: {name} is {list(shape)}, and by {_SETTINGS} {list(right)}")

    def _check_types(self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        """Check that each tensor is of the model's type, or all floating ones of one other precision."""
        floats = Counter(value.dtype for name, value in found.items() if expected[name].is_floating_point())
        common = floats.most_common(1)[0][0] if floats else None
        precision = common if common is not None and common.is_floating_point else None
        for name, value in found.items():
            right = expected[name].dtype
            allowed = {right} if precision is None or not right.is_floating_point else {precision}
            if value.dtype not in allowed:
                raise ValueError(f"{self.path}: {name} is {_short(value.dtype)}; right is {_short(allowed.pop())}")


#: The files that say what a model is built of.
_SETTINGS = "config.json and encoder"


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Check that no tensor has values that are not finite.

    Raises:
        ValueError: when any has, naming them and counting the values of the first.
    """
    wrong = {
        name: int(value.numel() - value.isfinite().sum())
        for name, value in tensors.items()
        if value.is_floating_point() and not value.isfinite().all()
    }
    if wrong:
        first = next(iter(wrong))
        raise ValueError(
            f"{where} has weights that are not finite: {listed(list(wrong))} ({wrong[first]} of "
            f"{tensors[first].numel()} values of {first}); train again, or take an earlier checkpoint"
        )


class AllocationLimit(TorchDispatchMode):
    """Context in which creating too many tensors, or tensors of too many values, is refused before they are allocated.

    Settings that ask for a layer of 10**12 features, or for as many layers, fail at once.

    Args:
        max_values: number of values in all.
        max_tensors: number of tensors.
        reason: where the limits come from, for the message.

    Attributes:
        values: how many have been created.
        tensors: how many have been created.
    """

    def __init__(self, max_values: int, max_tensors: int, reason: str) -> None:
        super().__init__()
        self.max_values, self.max_tensors, self.reason = max_values, max_tensors, reason
        self.values, self.tensors = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        creates = any(argument.name == "device" for argument in func._schema.arguments)
        if creates and not any(isinstance(value, Tensor) for value in (*args, *kwargs.values())):
            self._count(func(*args, **{**kwargs, "device": "meta"}))
        elif func is torch.ops.aten.clone.default:
            self._count(args[0])
        return func(*args, **kwargs)

    def _count(self, tensor: Tensor) -> None:
        self.values += tensor.numel()
        self.tensors += 1
        if self.values > self.max_values or self.tensors > self.max_tensors:
            raise ValueError(
                f"these settings describe a larger model than that of the weights: a tensor of {list(tensor.shape)}, "
                f"{self.values:,} values in {self.tensors:,} tensors so far, and {self.reason}"
            )


def _values(tensor: Tensor) -> object:
    """Return a key that tensors have in common which share their values."""
    if not tensor.numel():
        return object()
    return tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
