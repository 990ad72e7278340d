"""The graphs of posts as a data set of PyG: built once, saved, and loaded without executing code of the file."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset
from torch_geometric.data.data import BaseData

from mnergraph.data.datasets.base import PostDataset
from mnergraph.files import replacing, tensor_file_errors
from mnergraph.graph.builder import GraphBuilder
from mnergraph.graph.collate import JoinedGraphs, check_same_stores, with_plain_pair
from mnergraph.graph.node_types import Tokens
from mnergraph.pair import Pair

#: Version of the files.
FORMAT = 1
#: Posts whose graphs are part of a file's key, so that another builder or other features have another one.
NUM_SAMPLES = 8


class GraphDataset(InMemoryDataset):
    """The graphs of posts, as PyG's `InMemoryDataset` keeps them.

    ::

        dataset = GraphDataset("graphs/train", posts, model.builder, transform=T.ToUndirected())
        loader = torch_geometric.loader.DataLoader(dataset, batch_size=16, shuffle=True)

    Every graph has the nodes and edges that ``builder`` makes; ``id``, ``words``, ``labels`` and ``evidence`` are in
    the place of its pair (`mnergraph.graph.with_plain_pair`), so it is tensors, text and lists of text. Models take it
    and batches of it.

    The graphs are in ``root/processed/graphs-<key>.pt``, PyG's own file, which `torch.load` reads with its safe default
    (``weights_only=True``); anything else in such a file is refused. The file is mapped into memory: tensors take
    memory when they are first read, once for all processes. The key is that of the posts, the schema, the ``repr`` of
    ``pre_transform`` and ``pre_filter``, and the graphs of `NUM_SAMPLES` posts, so other posts or another builder have
    another file. Pixels of crops are not in the file: they are read from the images when a graph is taken, as in
    training.

    Args:
        root: the folder.
        posts: the posts, with the evidence that the builder needs, or a data set of posts.
        builder: the builder, such as ``model.builder``.
        transform: applied to every graph when it is taken, as PyG's transforms are.
        pre_transform: applied to every graph before it is saved.
        pre_filter: whether a graph is kept; called before ``pre_transform``.
        complete_edges: whether the edges of fully connected relations are stored, too, for layers of PyG; this
            package's layers do without them.
        force_reload: build the graphs again, such as after a change of a transform's code.

    Raises:
        ValueError: when no graph is left, when graphs differ in their node types, relations or attributes, or when the
            file is damaged.
    """

    def __init__(
        self,
        root: str | Path,
        posts: PostDataset | Iterable[Pair],
        builder: GraphBuilder,
        *,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_filter: Callable[[HeteroData], bool] | None = None,
        complete_edges: bool = False,
        force_reload: bool = False,
    ) -> None:
        self.builder, self.complete_edges = builder, complete_edges
        self._joined: JoinedGraphs | None = None
        self._posts: Sequence[Pair] = posts.pairs if isinstance(posts, PostDataset) else list(posts)
        if not self._posts:
            raise ValueError("no posts to make graphs of")
        settings = {"pre_transform": pre_transform, "pre_filter": pre_filter}
        self._key = self._key_of({name: _described(value) for name, value in settings.items()})
        super().__init__(str(root), transform, pre_transform, pre_filter, force_reload=force_reload)
        self._posts = ()
        self.load(self.processed_paths[0])

    @property
    def processed_file_names(self) -> list[str]:
        """The file of the graphs."""
        return [f"graphs-{self._key}.pt"]

    @property
    def num_classes(self) -> int:
        """The number of labels of a token.

        Raises:
            ValueError: for a builder without labels.
        """
        tokens = self.builder.node_types.get("token")
        if not isinstance(tokens, Tokens) or tokens.labels is None:
            raise ValueError("the builder has no label set: give it Tokens(labels=...)")
        return len(tokens.labels)

    def process(self) -> None:
        """Build the graphs and save them."""
        graphs: Iterable[HeteroData] = map(self._build, self._posts)
        if self.pre_filter is not None:
            graphs = filter(self.pre_filter, graphs)
        if self.pre_transform is not None:
            graphs = map(self.pre_transform, graphs)
        kept = list(graphs)
        if not kept:
            raise ValueError(f"pre_filter keeps none of the {len(self._posts)} posts")
        self.save(kept, self.processed_paths[0])

    def _process(self) -> None:
        # PyG's own warns of another pre_transform, which has another file here
        path = Path(self.processed_paths[0])
        if self.force_reload or not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.process()

    def get(self, idx: int) -> HeteroData:
        """Return the graph of a post, complete."""
        if self.slices is None:
            return self.builder.load_image_tensors(super().get(idx))
        if self._joined is None or self._joined.slices is not self.slices:
            self._joined = JoinedGraphs(self._data, self.slices)
        return self.builder.load_image_tensors(self._joined[idx])

    @staticmethod
    def collate(data_list: Sequence[BaseData]) -> tuple[BaseData, dict[Any, Any] | None]:
        """Return graphs as one, and where each begins; of a single graph None.

        Raises:
            ValueError: when they differ in node types, relations or attributes, which PyG's own drops without a word.
        """
        check_same_stores(data_list)
        data, slices = InMemoryDataset.collate(data_list)
        if slices is None:
            return data.clone(), None  # tensors may be rows of a large file
        for key in (*data.node_types, *data.edge_types):
            slices.setdefault(key, {})  # PyG's own can't separate node types without tensors
        return data, slices

    @classmethod
    def save(cls, data_list: Sequence[BaseData], path: str) -> None:
        """Write graphs into a file that PyG's own `InMemoryDataset.load` reads, too.

        Raises:
            ValueError: when they differ in node types, relations or attributes.
            OSError: when the file can't be written, such as on a full disk.
        """
        data, slices = cls.collate(data_list)
        with replacing(Path(path), own=True) as unfinished, tensor_file_errors(Path(path)):
            torch.save((data.to_dict(), slices, HeteroData), unfinished)

    def load(self, path: str, data_cls: type[BaseData] = HeteroData) -> None:
        """Read the graphs of a file that `save` wrote; it is never unpickled beyond torch's safe default.

        Raises:
            ValueError: when the file is damaged, or holds more than tensors and plain values.
        """
        try:
            data, self.slices, _ = torch.load(path, mmap=True, weights_only=True)
            self.data = data_cls.from_dict(data)
        except (ValueError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path}: no graphs that GraphDataset saved, or damaged; delete it, or give force_reload=True "
                f"({str(error).splitlines()[0]})"
            ) from error

    def _build(self, pair: Pair) -> HeteroData:
        data = self.builder.build(pair)
        if self.complete_edges:
            self.builder.schema.connect(data, include_complete=True)
        return with_plain_pair(data)

    def _key_of(self, settings: dict[str, Any]) -> str:
        """Return the key of the posts, the settings, and how the builder makes graphs."""
        checksum = hashlib.sha256()
        settings |= {"format": FORMAT, "complete_edges": self.complete_edges, "schema": self.builder.schema.to_dict()}
        for value in (settings, *map(_summary, self._posts)):
            checksum.update(json.dumps(value, sort_keys=True, default=str).encode())
        samples = map(self._build, self._posts[:: -(-len(self._posts) // NUM_SAMPLES)])
        stores = (store for data in samples for store in (*data.node_stores, *data.edge_stores))
        for name, value in (item for store in stores for item in store.items()):
            is_tensor = isinstance(value, Tensor)
            checksum.update(f"{name} {[value.dtype, value.shape] if is_tensor else value}".encode())
            checksum.update(bytes(value.cpu().numpy().tobytes()) if is_tensor else b"")
        return checksum.hexdigest()[:16]


def _summary(pair: Pair) -> list[Any]:
    """A pair as JSON, with the shapes of its tensors."""
    tensors = [pair.image_features, *(item.region for item in pair.objects)]
    return [pair.to_dict(), [None if x is None else [str(x.dtype), list(x.shape)] for x in tensors]]


def _described(transform: Callable[..., Any] | None) -> str:
    """A transform's text without addresses, by which PyG, too, compares transforms."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(transform))
