"""Files of posts in any file system that pyarrow knows, in parts of a few thousand, each with one file of results.

A part's file of results is named after the part, written beside its place and renamed: it is whole or not there, so
that the names of a folder say what is done.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol

from mnergraph.engines.install import NEEDED

try:
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq
    from pyarrow import fs
except ImportError as error:
    raise ImportError(NEEDED) from error

from mnergraph.data.formats.conll import BYTE_ORDER_MARK
from mnergraph.data.formats.jsonl import JSONL
from mnergraph.engines.columns import POST_COLUMNS, TENSORS, Columns
from mnergraph.engines.images import is_address
from mnergraph.quoting import listed

PARQUET = ".parquet"
#: What determines the results in a folder, for a later run that goes on.
RUN_FILE = "_run.json"
#: Rows that are read, computed and written at once within a part; fewer where they hold bytes of images or features.
WINDOW, IMAGE_WINDOW = 2048, 256
#: Windows of a part, and its fewest posts.
WINDOWS, MIN_PART = 8, 64
#: File systems whose files appear when they are whole, and that can't rename.
_OBJECT_STORES = ("s3", "gcs", "abfs")

_BOX = pa.list_(pa.float64())
_OBJECT = {"label": pa.string(), "score": pa.float64(), "box": _BOX, "words": pa.list_(pa.int64())}
_TEXT = pa.list_(pa.struct({"source": pa.string(), "text": pa.string()}))
_ENTITY = {
    "type": pa.string(),
    "score": pa.float64(),
    "words": pa.list_(pa.string()),
    **dict.fromkeys(("word_start", "word_end", "start", "end"), pa.int64()),
    # of models that ground entities
    "box": _BOX,
    "box_label": pa.string(),
    "box_probability": pa.float64(),
}


def result_schema(id_type: pa.DataType, numbers: pa.DataType) -> dict[str, pa.DataType]:
    """Return the type of every column that a job of `mnergraph.engines` can give.

    Args:
        id_type: of the posts' ids.
        numbers: of features.
    """
    return {
        "id": id_type,
        "text": pa.string(),
        "words": pa.list_(pa.string()),
        "image": pa.string(),
        "caption": pa.string(),
        "context": _TEXT,
        "objects": pa.list_(pa.struct({**_OBJECT, "region": pa.list_(numbers)})),
        "width": pa.int64(),
        "height": pa.int64(),
        "extra": pa.string(),
        "grid": pa.list_(numbers),
        "grid_rows": pa.int64(),
        "pooled": pa.list_(numbers),
        "entities": pa.list_(pa.struct(_ENTITY)),
        "heads": pa.string(),
        "error": pa.string(),
        "missing": pa.list_(pa.string()),
    }


def file_system(address: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a local path or an address, and the path in it."""
    if not is_address(address):
        return fs.LocalFileSystem(), str(Path(address).absolute())
    try:
        system, path = fs.FileSystem.from_uri(address)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{address} is no address that pyarrow knows: {error}") from error
    return system, path


@dataclass(frozen=True)
class PostFile:
    """A file of posts.

    Attributes:
        path: in its file system.
        name: from the folder of posts, for messages and for the names of results.
        size: in bytes.
        rows: its number of posts.
    """

    path: str
    name: str
    size: int
    rows: int

    @property
    def is_jsonl(self) -> bool:
        """Whether it holds JSON lines, not Parquet."""
        return self.name.lower().endswith(JSONL)


@dataclass(frozen=True)
class Part:
    """Some posts of a file, which are computed and written together.

    Attributes:
        file: the path.
        name: of the file of results.
        start: the first post, from 0.
        rows: number of posts.
        offset: of a file of JSON lines the byte at which the first one begins.
        line: the number of that line, from 1.
    """

    file: str
    name: str
    start: int
    rows: int
    offset: int = 0
    line: int = 1

    def to_json(self) -> str:
        """Return the part as text, for `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Part:
        """Return the part of a text."""
        return cls(**json.loads(text))


class PostFiles:
    """All files of posts of a folder, or one file: Parquet (.parquet) or JSON lines (.jsonl).

    Names that begin with a dot or underscore are left out.

    Args:
        address: the folder or file: a local path, or an address of a file system that pyarrow knows.

    Attributes:
        folder: the folder of the files, as it was given.
        files: the files, by name.
        schema: of the Parquet files; None where there are none.

    Raises:
        FileNotFoundError: when there is no such folder or file, or no file of posts in it.
        ValueError: for a file that can't be read, or without the columns of posts, naming it.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.system, path = file_system(self.address)
        found = self.system.get_file_info(path)
        if found.type == fs.FileType.NotFound:
            raise FileNotFoundError(f"there is no file or folder of posts {address}")
        one = found.type == fs.FileType.File
        self.folder = self.address.rpartition("/")[0] or "." if one else self.address
        infos = [found] if one else self.system.get_file_info(fs.FileSelector(path, recursive=True))
        root = path.rpartition("/")[0] if one else path
        names = {info.path: info.path.removeprefix(root).lstrip("/") for info in infos}
        wanted = [
            info
            for info in infos
            if info.type == fs.FileType.File
            and info.path.lower().endswith((PARQUET, JSONL))
            and not any(part.startswith((".", "_")) for part in names[info.path].split("/"))
        ]
        if not wanted:
            raise FileNotFoundError(f"{address} is no file of posts and has none: these are {PARQUET} and {JSONL}")
        self.schema: pa.Schema | None = None
        self._lines: dict[str, list[tuple[int, int]]] = {}
        self.files = [
            PostFile(info.path, names[info.path], info.size, self._count(info.path, names[info.path]))
            for info in sorted(wanted, key=lambda info: info.path)
        ]
        self.rows = sum(file.rows for file in self.files)

    def _count(self, path: str, name: str) -> int:
        """Return the number of posts of a file, and check the columns of Parquet."""
        if name.lower().endswith(JSONL):
            self._lines[path] = list(self._line_offsets(path))
            return len(self._lines[path])
        try:
            with self.system.open_input_file(path) as source:
                file = pq.ParquetFile(source)
                schema, rows = file.schema_arrow, int(file.metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{name} can't be read as Parquet: {error}") from error
        check_columns(schema, name)
        if self.schema is not None and self.schema.field("id").type != schema.field("id").type:
            raise ValueError(
                f"{name}: id is {schema.field('id').type}, and {self.schema.field('id').type} in the files before it"
            )
        self.schema = (
            schema if self.schema is None else pa.unify_schemas([self.schema, schema], promote_options="permissive")
        )
        return rows

    def _line_offsets(self, path: str) -> Iterator[tuple[int, int]]:
        """Yield the byte at which each line of posts begins, and its number."""
        offset = 0
        with self.system.open_input_stream(path) as source:
            for number, line in enumerate(_lines(source), 1):
                if line.removeprefix(BYTE_ORDER_MARK).strip():
                    yield offset, number
                offset += len(line)

    @property
    def id_type(self) -> pa.DataType:
        """The type of the ids; text where a file of JSON lines has any."""
        mixed = self.schema is None or any(file.is_jsonl for file in self.files)
        return pa.string() if mixed or self.schema is None else self.schema.field("id").type

    @property
    def columns(self) -> set[str]:
        """The columns of Parquet files that are read."""
        return set() if self.schema is None else set(self.schema.names) & set(POST_COLUMNS)

    @property
    def window(self) -> int:
        """Rows that are read at once."""
        return IMAGE_WINDOW if self.schema is not None and _is_heavy(self.schema) else WINDOW

    def part_rows(self, workers: int) -> int:
        """Return the posts of a part, so that every worker gets several of them."""
        return max(MIN_PART, min(WINDOWS * self.window, -(-self.rows // (4 * workers))))

    def parts(self, part_rows: int) -> Iterator[Part]:
        """Yield the parts of all files; their names depend on the files and ``part_rows`` alone."""
        for file in self.files:
            identity = hashlib.sha256(f"{file.name} {file.size} {file.rows}".encode()).hexdigest()[:12]
            for start in range(0, file.rows, part_rows):
                rows = min(part_rows, file.rows - start)
                offset, line = self._lines[file.path][start] if file.is_jsonl else (0, 1)
                name = f"{PurePosixPath(file.name).stem[:80]}-{identity}-{start:010d}{PARQUET}"
                yield Part(file.path, name, start, rows, offset, line)

    def rows_to_check(self) -> Iterator[dict[str, Any]]:
        """Yield the columns of all posts, some rows at a time, without images' bytes."""
        for file in self.files:
            if file.is_jsonl:
                part = Part(file.path, file.name, 0, file.rows)
                yield from read_part(self.system, part, IMAGE_WINDOW)
                continue
            names = set(self.columns)
            with self.system.open_input_file(file.path) as source:
                opened = pq.ParquetFile(source)
                schema = opened.schema_arrow
                has_bytes = "image" in schema.names and not _is_text(schema.field("image").type)
                names -= {"image"} if has_bytes else set()
                for batch in opened.iter_batches(IMAGE_WINDOW, columns=sorted(names & set(schema.names))):
                    columns = _columns(batch)
                    if has_bytes:
                        columns["image"] = ["-"] * batch.num_rows
                    yield columns


def check_columns(schema: pa.Schema, name: str) -> None:
    """Check that a Parquet file has the columns of posts.

    Raises:
        ValueError: for one that is missing or of another type, with what is right.
    """
    if "id" not in schema.names:
        raise ValueError(f"{name} has no column id, but {listed(schema.names)}")
    right = {
        "text": ("text", _is_text),
        "line": ("text", _is_text),
        "caption": ("text", _is_text),
        "words": ("a list of text", lambda kind: _is_list(kind) and _is_text(kind.value_type)),
        "image": ("text (a path), bytes, or a struct of both", lambda kind: _is_image(kind)),
        "context": ("a list of structs of source and text", _is_list),
        "objects": ("a list of structs of label, score, box and words", _is_list),
        "width": ("a whole number", pa.types.is_integer),
        "height": ("a whole number", pa.types.is_integer),
        "extra": ("a struct, or JSON", lambda kind: pa.types.is_struct(kind) or _is_text(kind)),
        "grid": ("a list of numbers", _is_list),
        "grid_rows": ("a whole number", pa.types.is_integer),
        "pooled": ("a list of numbers", _is_list),
    }
    for column, (what, fits) in right.items():
        if column in schema.names and not (fits(kind := schema.field(column).type) or pa.types.is_null(kind)):
            raise ValueError(f"{name}: column {column} is {kind}; right is {what}")


def _is_heavy(schema: pa.Schema) -> bool:
    """Whether rows hold the bytes of images, or features."""
    kinds = {name: schema.field(name).type for name in schema.names}
    has_bytes = "image" in kinds and not (_is_text(kinds["image"]) or pa.types.is_null(kinds["image"]))
    has_regions = "region" in str(kinds.get("objects", ""))
    return has_bytes or has_regions or not kinds.keys().isdisjoint(TENSORS)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_image(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind)
    )


def _columns(batch: pa.RecordBatch) -> dict[str, Any]:
    """Return a batch as lists, and lists of numbers as arrays."""
    return {
        name: batch.column(name).to_numpy(zero_copy_only=False) if name in TENSORS else batch.column(name).to_pylist()
        for name in batch.schema.names
    }


def _lines(source: Any) -> Iterator[bytes]:
    """Yield the lines of an open file of pyarrow."""
    rest = b""
    while block := source.read(2**20):
        *whole, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


def read_part(system: fs.FileSystem, part: Part, window: int) -> Iterator[dict[str, Any]]:
    """Yield the columns of a part, so many rows at a time."""
    if part.file.lower().endswith(JSONL):
        with system.open_input_file(part.file) as source:
            source.seek(part.offset)
            lines = ((number, line) for number, line in enumerate(_lines(source), part.line))
            posts = islice(((n, line) for n, line in lines if line.removeprefix(BYTE_ORDER_MARK).strip()), part.rows)
            while some := list(islice(posts, window)):
                yield _json_columns(part, some)
        return
    with system.open_input_file(part.file) as source:
        file = pq.ParquetFile(source)
        groups: list[int] = []
        begin = first = 0
        for index in range(file.num_row_groups):
            end = begin + file.metadata.row_group(index).num_rows
            if end > part.start and begin < part.start + part.rows:
                first = begin if not groups else first
                groups.append(index)
            begin = end
        skip, left = part.start - first, part.rows
        names = [name for name in POST_COLUMNS if name in file.schema_arrow.names]
        for batch in file.iter_batches(window, row_groups=groups, columns=names):
            batch, skip = batch.slice(skip), max(0, skip - batch.num_rows)
            batch = batch.slice(0, left)
            if batch.num_rows:
                left -= batch.num_rows
                yield _columns(batch)
            if not left:
                return


def _json_columns(part: Part, lines: Sequence[tuple[int, bytes]]) -> dict[str, Any]:
    """Return lines of JSON as columns, and as ids what they have as such."""
    texts, ids = [], []
    for number, raw in lines:
        text = (raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw).decode("utf-8", "replace")
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            fields = None
        id = fields.get("id", "") if isinstance(fields, dict) else ""
        texts.append(text)
        ids.append(str(id).encode("utf-8", "replace").decode())
    return {"id": ids, "line": texts}


class Job(Protocol):
    """A class of `mnergraph.engines.jobs`."""

    COLUMNS: ClassVar[tuple[str, ...]]

    def __call__(self, columns: Columns) -> dict[str, list[Any]]:
        """Return the columns of the results."""


class ResultFolder:
    """A folder of results, with a Parquet file for every part that is done.

    Args:
        address: a local path, or an address of a file system that pyarrow knows.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.system, self.path = file_system(self.address)

    def open(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """Make the folder, or check that what it has is of the same run; returns the settings it was begun with.

        Args:
            run: what determines the results, as plain JSON values; ``part_rows`` may differ, and stays as it was.

        Raises:
            ValueError: when the folder has results of other settings, naming each difference.
        """
        path = f"{self.path}/{RUN_FILE}"
        if self.system.get_file_info(path).type == fs.FileType.File:
            with self.system.open_input_stream(path) as file:
                before = json.loads(file.read())
            different = [
                name for name in {**before, **run} if before.get(name) != run.get(name) and name != "part_rows"
            ]
            if different:
                changes = "; ".join(f"{name}: {before.get(name)!r}, now {run.get(name)!r}" for name in different)
                raise ValueError(
                    f"{self.address} has results of other settings ({changes}); give another out, or delete it"
                )
            return dict(before)
        if self.names():
            raise ValueError(f"{self.address} has Parquet files and no {RUN_FILE}; give a folder of its own")
        self.system.create_dir(self.path, recursive=True)
        self._replace(RUN_FILE, lambda file: file.write(json.dumps(dict(run), indent=1).encode()))
        return dict(run)

    def names(self) -> set[str]:
        """Return the names of the files of results that are there."""
        infos = self.system.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return {info.base_name for info in infos if info.base_name.endswith(PARQUET) and info.base_name[0] not in "._"}

    def write(self, posts: fs.FileSystem, part: Part, job: Job, schema: pa.Schema, window: int) -> None:
        """Compute a part and write its file.

        Args:
            posts: the file system of the posts.
            part: the part.
            job: what is computed.
            schema: of the results.
            window: rows that are computed and written at once.
        """

        def content(file: Any) -> None:
            rows = 0
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for columns in read_part(posts, part, window):
                    table = pa.Table.from_pydict(job(columns), schema=schema)
                    rows += table.num_rows
                    writer.write_table(table)
            if rows != part.rows:
                raise ValueError(f"{part.file}: {rows} posts in the place of {part.rows}; it was changed meanwhile")

        self._replace(part.name, content)

    def _replace(self, name: str, content: Callable[[Any], object]) -> None:
        """Write a file that is whole or not there."""
        path = f"{self.path}/{name}"
        if self.system.type_name in _OBJECT_STORES:
            with self.system.open_output_stream(path) as file:
                content(file)
            return
        unfinished = f"{self.path}/.{name}.{uuid.uuid4().hex}.unfinished"
        try:
            with self.system.open_output_stream(unfinished) as file:
                content(file)
            self.system.move(unfinished, path)
        except BaseException:
            if self.system.get_file_info(unfinished).type == fs.FileType.File:
                self.system.delete_file(unfinished)
            raise

    def remove_unfinished(self) -> None:
        """Remove what killed runs have left of files."""
        for info in self.system.get_file_info(fs.FileSelector(self.path, allow_not_found=True)):
            if info.base_name.startswith(".") and info.base_name.endswith(".unfinished"):
                self.system.delete_file(info.path)

    def read(self, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        """Yield columns of all results, some rows at a time."""
        paths = [f"{self.path}/{name}" for name in sorted(self.names())]
        if paths:
            for batch in ds.dataset(paths, filesystem=self.system, format="parquet").to_batches(columns=list(columns)):
                yield {name: batch.column(name).to_pylist() for name in columns}
