r"""Exported models and int8 against the library: the same scores, entities and F1, and CPU time.

    uv run --extra onnx python -m benchmarks.export '[RUN/model]' TWITTER2017 --captions CAPTIONS \
        --out benchmarks/results/export.json

Trained models on real posts, one thread, in turns within one run, in CPU seconds of the process; medians. All get the
same batches as tensors, so that what is compared is encoder and stack alone:

- *fp32*, *bf16*: the library, as `predict` computes (bf16 by autocast)
- *pt2*, *onnx*: the exported file, by PyTorch and by ONNX Runtime
- *torch int8*, *torchao int8*, *onnx int8*: linear maps with int8 weights and activations that are quantized as they
  come; PyTorch's ``quantize_dynamic``, torchao's ``Int8DynamicActivationInt8WeightConfig`` where torchao is installed,
  and ONNX Runtime's ``quantize_dynamic`` of the exported file
- *compiled*, *aot*: ``torch.compile``, and the ``.pt2`` compiled ahead of time by AOTInductor, with ``--compiled true``
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from jsonargparse import auto_cli
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor
from torch_geometric.data import Batch

import mnergraph
from benchmarks.common import commit, machine, write_result
from mnergraph.data import Evidence, read_conll
from mnergraph.graph import collate
from mnergraph.inference import export, export_inputs
from mnergraph.inference.export import SETTINGS
from mnergraph.labels import tags_to_spans
from mnergraph.metrics.scores import score
from mnergraph.models import Tagger
from mnergraph.models.batches import inference
from mnergraph.pair import Pair

#: A batch in both forms, and its posts: the graphs, and the tensors of the exported file.
Ready = tuple[Batch, dict[str, Tensor], list[Pair]]
#: From a batch to the scores of its words.
Scores = Callable[[Ready], Tensor]


def library(model: Callable[[Batch], Any]) -> Scores:
    """Return the library's scores."""
    return lambda ready: model(ready[0]).emissions["tags"]


def onnx(file: Path) -> Scores:
    """Return the scores of a file by ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options)
    names = [given.name for given in session.get_inputs()]

    def run(ready: Ready) -> Tensor:
        inputs = ready[1]
        return torch.from_numpy(session.run(None, {name: inputs[name].numpy() for name in names})[0])

    return run


def torch_int8(folder: Path) -> Tagger:
    """Return the model with PyTorch's dynamically quantized linear maps."""
    model = mnergraph.load(folder)
    torch.backends.quantized.engine = "x86"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    return model


def torchao_int8(folder: Path) -> Tagger:
    """Return the model with torchao's dynamically quantized linear maps."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    model = mnergraph.load(folder)
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return model


def variants(
    folder: Path, model: Tagger, examples: Sequence[Pair], files: Path, *, compiled: bool
) -> tuple[dict[str, Scores], dict[str, Any]]:
    """Return what is compared by name, and seconds of exporting and bytes of files."""
    facts: dict[str, Any] = {"seconds": {}, "MiB": {}}

    def timed(name: str, make: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = make()
        facts["seconds"][name] = time.process_time() - start
        return result

    for suffix in ("pt2", "onnx"):
        timed(suffix, partial(export, model, files / f"model.{suffix}", examples))
    small = files / "model.int8.onnx"
    timed("onnx int8", partial(quantize_dynamic, files / "model.onnx", small, weight_type=QuantType.QInt8))
    saved = torch.export.load(files / "model.pt2", extra_files=(extra := {SETTINGS: ""}))
    program, names = saved.module(), json.loads(extra[SETTINGS])["inputs"]

    def of_tensors(run: Callable[[dict[str, Tensor]], Tensor]) -> Scores:
        return lambda ready: run({name: ready[1][name] for name in names})

    found: dict[str, Scores] = {
        "fp32": library(model),
        "bf16": library(model),
        "pt2": of_tensors(program),
        "onnx": onnx(files / "model.onnx"),
        "torch int8": library(torch_int8(folder)),
        "onnx int8": onnx(small),
    }
    has_torchao = find_spec("torchao") is not None
    if has_torchao:
        found["torchao int8"] = library(torchao_int8(folder))
        facts["torchao"] = version("torchao")
    if compiled:
        found["compiled"] = of_tensors(torch.compile(program, dynamic=True))
        package = timed(
            "aot", lambda: torch._inductor.aoti_compile_and_package(saved, package_path=str(files / "aot.pt2"))
        )
        found["aot"] = of_tensors(torch._inductor.aoti_load_package(package))
    facts["MiB"] = {file.name: file.stat().st_size / 2**20 for file in sorted(files.iterdir())}
    return found, facts


def predicted(model: Tagger, ready: Ready, scores: Tensor) -> list[list[str]]:
    """Return the tags of every post by the model's own decoder."""
    graph = model(ready[0])
    return model.decode_tags(graph.with_scores("tags", scores.float()))


def compare(model: Tagger, runs: dict[str, Scores], batches: Sequence[Ready], repeats: int) -> dict[str, Any]:
    """Return CPU milliseconds of a post, and what differs in scores and tags, of every variant."""
    posts = [pair for ready in batches for pair in ready[2]]
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    scores: dict[str, list[Tensor]] = {}
    first: dict[str, float] = {}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            with inference(model, "bf16") if name == "bf16" else torch.no_grad():
                start = time.process_time()
                found = [run(ready) for ready in batches]
                took = time.process_time() - start
            if turn:
                seconds[name].append(took)
            else:
                scores[name], first[name] = found, took
    gold = [pair.labels or () for pair in posts]
    result, entities = {}, {}
    for name, found in scores.items():
        with torch.inference_mode():
            tags = [row for ready, rows in zip(batches, found, strict=True) for row in predicted(model, ready, rows)]
        entities[name] = [set(tags_to_spans(row)) for row in tags]
        median = statistics.median(seconds[name])
        pairs = list(zip(entities["fp32"], entities[name], strict=True))
        result[name] = {
            "CPU ms of a post": 1e3 * median / len(posts),
            "times as fast as fp32": statistics.median(seconds["fp32"]) / median,
            "CPU s of the first turn": first[name],
            "largest difference of a score": max(
                float((a - b).abs().max()) for a, b in zip(scores["fp32"], found, strict=True)
            ),
            "entities": sum(map(len, entities[name])),
            "entities also of fp32": sum(len(a & b) for a, b in pairs),
            "posts with a difference": sum(a != b for a, b in pairs),
            "F1": score(gold, tags).lenient.f1,
        }
    return result


def main(
    models: list[Path],
    root: Path,
    captions: Path | None = None,
    out: Path | None = None,
    posts: int = 723,
    single: int = 150,
    repeats: int = 3,
    compiled: bool = False,
) -> dict[str, Any]:
    """Measures, prints and writes the figures.

    Args:
        models: folders of trained models whose tokens are words.
        root: folder of the data set, whose test posts are predicted.
        captions: ``captions.jsonl``, whose noun phrases become objects.
        out: the result file.
        posts: how many test posts, in batches of 1,024 pieces.
        single: how many of them one by one.
        repeats: turns of which the median counts, after one to warm up.
        compiled: whether to measure what has to be compiled first, which takes minutes.
    """
    torch.set_num_threads(1)
    test = Evidence(captions).attach(read_conll(root / "test.txt"))[:posts]
    result: dict[str, Any] = {
        "benchmark": "export",
        "machine": machine(),
        "onnxruntime": onnxruntime.__version__,
        "commit": commit(),
        "posts": len(test),
        "models": {},
    }
    for folder in models:
        model = mnergraph.load(folder)
        graphs = model.builder.build_all(test)

        def ready(indices: Sequence[int], model: Tagger = model, graphs: Sequence[Any] = graphs) -> Ready:
            chosen = [test[index] for index in indices]
            return collate([graphs[index] for index in indices]), export_inputs(model, chosen), chosen

        regimes = {
            "batches of 1,024 pieces": [ready(indices) for indices in model.batches(test, 1024)],
            "one post at a time": [ready([index]) for index in range(min(single, len(test)))],
        }
        examples = [pair for pair in test if len(pair.objects) > 1][:4] or test[:4]
        with tempfile.TemporaryDirectory() as files:
            runs, facts = variants(folder, model, examples, Path(files), compiled=compiled)
            measured = {name: compare(model, runs, batches, repeats) for name, batches in regimes.items()}
        result["models"][type(model).__name__] = {**facts, **measured}
        print(type(model).__name__, json.dumps(result["models"][type(model).__name__], indent=1), flush=True)
    if out is not None:
        write_result(result, out)
    return result


if __name__ == "__main__":
    auto_cli(main)
