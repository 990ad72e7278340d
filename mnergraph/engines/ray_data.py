"""Jobs over files of posts by Ray Data: everything that names Ray.

Ray Data maps a pool of actors, each with one instance of a job's class, over the *parts* of the files. A part is one
block, made as small on purpose: Ray gives an actor a block at a time, and a small file comes as one block, whatever
number of rows a batch is asked to have. An actor reads its part, computes it and writes the part's file of results, so
that neither images nor results go through the object store, and the names of the files are all the bookkeeping.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mnergraph.engines.files import Job, Part, PostFiles, ResultFolder, file_system, result_schema
from mnergraph.engines.install import NEEDED

#: CPUs beside those of the actors, for Ray Data's own tasks, where this process starts a Ray of its own.
SPARE_CPUS = 1
#: How often an actor is started again, and a part computed again, after a process or machine has died.
MAX_RESTARTS = 3


@dataclass(frozen=True)
class Share:
    """What of the cluster every actor gets.

    Attributes:
        gpus: GPUs, or a part of one; 0 where there are none.
    """

    gpus: float


def require_ray() -> Any:
    """Return the module of Ray, with ``ray.data`` imported.

    Raises:
        ImportError: where it is not installed, with how to install it.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(NEEDED) from error
    return ray


def connect(workers: int) -> Share:
    """Connect to the cluster that ``RAY_ADDRESS`` names, or start a Ray of this machine; returns every actor's share.

    A Ray to which this process is connected already is used as it is.

    Args:
        workers: number of actors.

    Raises:
        ImportError: where Ray is not installed.
        ValueError: when the cluster has fewer CPUs than actors.
    """
    local = {} if os.environ.get("RAY_ADDRESS") else {"address": "local", "include_dashboard": False}
    if local:
        # under `uv run` Ray packs the current folder and starts actors in a copy; Ray reads this when it is imported
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray = require_ray()
    if workers < 1:
        raise ValueError(f"workers is {workers}; --engine ray needs at least one")
    if not ray.is_initialized():
        if local:
            local["num_cpus"] = max(os.cpu_count() or 1, workers + SPARE_CPUS)
            # without usage statistics, unless the environment asks for them
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        with _own_signals():
            ray.init(**local, log_to_driver=False, logging_level="ERROR")
    resources = ray.cluster_resources()
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if cpus < workers:
        raise ValueError(f"the cluster has {cpus} CPUs, one for each worker: give --workers {cpus} at most")
    # several actors share a GPU where there are fewer GPUs
    return Share(1 / -(-workers // gpus) if gpus else 0.0)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put the handler of SIGTERM, which Ray replaces by one of its own, back at the end."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


class _PartWriter:
    """What an actor runs: one job, over parts."""

    def __init__(
        self, job: Callable[..., Job], arguments: Mapping[str, Any], posts: str, out: str, schema: Any, window: int
    ) -> None:
        self.job, self.schema, self.window = job(**arguments), schema, window
        self.posts, _ = file_system(posts)
        self.out = ResultFolder(out)

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
        parts = [Part.from_json(str(text)) for text in batch["part"]]
        for part in parts:
            self.out.write(self.posts, part, self.job, self.schema, self.window)
        return {"rows": [part.rows for part in parts]}


def run(
    job: Callable[..., Job],
    arguments: Mapping[str, Any],
    posts: PostFiles,
    out: ResultFolder,
    *,
    settings: Mapping[str, Any],
    workers: int,
    share: Share,
    columns: Sequence[str],
    numbers: Any = None,
    progress: Callable[[int], object] = lambda posts: None,
) -> int:
    """Compute the parts of the posts that have no file of results, and return the number of posts that had one.

    Args:
        job: a class of `mnergraph.engines.jobs`.
        arguments: of the class, which every actor calls once.
        posts: the posts.
        out: the folder of the results.
        settings: what determines the results, as plain JSON values.
        workers: number of actors.
        share: of the cluster, of every actor, see `connect`.
        columns: of the results.
        numbers: pyarrow's type of features; by default float32.
        progress: called with numbers of posts that are done.

    Raises:
        ValueError: when the folder has results of other settings or posts.
        OSError: when an actor fails, with its error; what is done stays, and the next run goes on.
    """
    import pyarrow as pa

    ray = require_ray()
    part_rows = out.open({**settings, "part_rows": posts.part_rows(workers)})["part_rows"]
    parts = list(posts.parts(part_rows))
    done = out.names()
    if strange := done - {part.name for part in parts}:
        raise ValueError(
            f"{out.address} has results of other posts, such as {min(strange)}; files of posts may be added between "
            "runs, not changed or removed: give another out, or delete it"
        )
    left = [part for part in parts if part.name not in done]
    if not left:
        return posts.rows
    types = result_schema(posts.id_type, numbers or pa.float32())
    schema = pa.schema([(name, types[name]) for name in columns])
    made = {
        "job": job,
        "arguments": dict(arguments),
        "posts": posts.address,
        "out": out.address,
        "schema": schema,
        "window": posts.window,
    }
    known = posts.rows - sum(part.rows for part in left)
    progress(known)
    data = ray.data.from_items([{"part": part.to_json()} for part in left], override_num_blocks=len(left))
    data.context.enable_progress_bars = False
    mapped = data.map_batches(
        _PartWriter,
        fn_constructor_kwargs=made,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(left))),
        num_cpus=1,
        num_gpus=share.gpus,
        # a part at which actors die, as memory is short, ends the run and does not start them for ever
        max_restarts=MAX_RESTARTS,
        max_task_retries=MAX_RESTARTS,
    )
    try:
        for row in mapped.iter_rows():
            progress(int(row["rows"]))
    except ray.exceptions.RayError as error:
        raise OSError(f"{_cause(error)}; what is done is in {out.address}, and the same command goes on") from error
    out.remove_unfinished()
    return known


def _cause(error: BaseException) -> str:
    """Return the innermost error behind Ray's that says something, in one line."""
    said = error
    while True:
        behind = getattr(error, "cause", None) or error.__cause__
        if not isinstance(behind, BaseException) or behind is error:
            break
        error = behind
        if str(error).strip():
            said = error
    lines = [line for line in str(said).splitlines() if line.strip()]
    return f"{type(said).__name__}: {lines[-1].strip() if lines else ''}"
