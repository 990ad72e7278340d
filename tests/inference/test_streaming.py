"""Many posts: in any order, in windows, in threads and in bf16, killed and resumed; memory stays as it was."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import mnergraph.inference.predictor as predictor_module
from mnergraph import BatchConfig, DetectedObject, LabelSet, Pair, Predictor, Tagger, pipeline, tiny_encoder
from mnergraph.cli.main import main
from mnergraph.data.formats.jsonl import UnreadablePost
from mnergraph.graph.batching import MIN_PIECES, build_batches, piece_batches
from mnergraph.graph.node_types import CROP_PIECES, Objects
from mnergraph.inference.output_file import OutputFile
from mnergraph.models import BERTCRF, UMGF
from mnergraph.models.batches import resolve_precision, run_in_batches
from mnergraph.nn.state import GraphState

WORDS = ["paris", "london", "ann", "lee", "sings", "in", "the", "rain"]


@pytest.fixture(scope="module")
def model() -> BERTCRF:
    torch.manual_seed(0)
    encoder = tiny_encoder(WORDS, hidden_size=16, num_layers=2, heads=2)
    return BERTCRF(encoder, LabelSet.from_types(["PER", "LOC"])).eval()


def some_posts(number: int, *, seed: int = 0, longest: int = 40) -> list[Pair]:
    chance = random.Random(seed)
    return [
        Pair(tuple(chance.choice(WORDS) for _ in range(chance.randint(1, longest))), id=str(index))
        for index in range(number)
    ]


# --- batches of pieces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_pieces", [1, 64, 500])
@pytest.mark.parametrize("longest", [10, 700])
def test_batches_hold_so_many_pieces(batch_pieces: int, longest: int) -> None:
    chance = random.Random(batch_pieces)
    lengths = [chance.randint(1, longest) for _ in range(301)]
    others = [chance.choice([0, 0, 30]) for _ in lengths]
    for besides in (None, others):
        batches = piece_batches(lengths, batch_pieces, others=besides)
        assert sorted(index for batch in batches for index in batch) == list(range(301))
        assert [lengths[index] for batch in batches for index in batch] == sorted(lengths)

        def size(batch: list[int], besides: list[int] | None = besides) -> int:
            padded = len(batch) * max(MIN_PIECES, *(lengths[index] for index in batch))
            return padded + sum(besides[index] for index in batch if besides)

        assert all(len(batch) == 1 or size(batch) <= batch_pieces for batch in batches)
        # no batch could have taken the first post of the next one
        assert all(size([*batch, following[0]]) > batch_pieces for batch, following in pairwise(batches))


def test_batches_hold_at_least_a_piece() -> None:
    assert piece_batches([], 10) == []
    with pytest.raises(ValueError, match="at least one piece, not 0"):
        piece_batches([1], 0)
    with pytest.raises(ValueError, match="batch_pieces is 1 or more, not 0"):
        BatchConfig(batch_pieces=0)
    with pytest.raises(ValueError, match="workers is 0 or more, not -1"):
        BatchConfig(workers=-1)
    with pytest.raises(ValueError, match="precision 'fp8' is not among fp32, bf16, auto"):
        BatchConfig(precision="fp8")  # type: ignore[arg-type]


def test_pixels_count_as_pieces() -> None:
    class Reader:
        def boxed(self, pair: Pair) -> Pair:
            return pair

    boxes = (DetectedObject("a", (0, 0, 1, 1)), DetectedObject("b", (0, 0, 2, 2)), DetectedObject("phrase"))
    pair, bare = Pair(("hi",), objects=boxes), Pair(("hi",))
    reads_crops = Objects(crop_reader=Reader())  # type: ignore[arg-type]
    assert reads_crops.batch_cost(pair) == 2 * CROP_PIECES
    assert reads_crops.batch_cost(bare) == CROP_PIECES
    assert Objects(region_dim=4).batch_cost(pair) == 0


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_graphs_are_built_in_order_and_an_error_stays_with_its_batch(model: BERTCRF, workers: int) -> None:
    posts = [*some_posts(20), Pair(("half", "\ud83d"), id="bad")]
    batches = [[0, 5], [20, 1], [2], list(range(6, 20))]
    found = list(build_batches(posts, batches, model.builder, workers=workers))
    assert [indices for indices, _ in found] == batches
    assert isinstance(found[1].batch, Exception)
    for (_, batch), expected in zip(found, batches, strict=True):
        if not isinstance(batch, Exception):
            assert [pair.id for pair in batch.pair] == [posts[index].id for index in expected]


def test_threads_end_with_the_one_who_reads(model: BERTCRF) -> None:
    built = []

    def build(pair: Pair) -> Any:
        built.append(pair.id)
        return model.builder(pair)

    posts = some_posts(200)
    graphs = build_batches(posts, [[index] for index in range(200)], build, workers=2)
    next(graphs)
    graphs.close()  # type: ignore[attr-defined]
    assert len(built) < 20


# --- one path: order, windows, threads, precision ----------------------------------------------------------


def predicted_alone(model: Tagger, posts: list[Pair]) -> list[list[tuple[int, int, str]]]:
    return [[(e.start, e.end, e.type) for e in model.predict([post])[0]] for post in posts]


def spans(lines: list[dict[str, Any]]) -> list[list[tuple[int, int, str]]]:
    return [[(e["word_start"], e["word_end"], e["type"]) for e in line["entities"]] for line in lines]


@pytest.mark.parametrize("order", ["as it is", "sorted", "reversed"])
@pytest.mark.parametrize("workers", [0, 2])
def test_entities_do_not_depend_on_the_order_of_the_file(
    model: BERTCRF, order: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor_module, "WINDOW", 32)
    posts = some_posts(100)
    if order != "as it is":
        posts.sort(key=lambda pair: len(pair.words), reverse=order == "reversed")
    lines = list(Predictor(model, batching=BatchConfig(batch_pieces=200, workers=workers))(posts))
    assert [line["id"] for line in lines] == [post.id for post in posts]
    expected = predicted_alone(model, posts)
    assert sum(map(len, expected)) > 50
    assert spans(lines) == expected


def test_posts_are_read_a_window_at_a_time(model: BERTCRF, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_module, "WINDOW", 8)
    read: list[str] = []

    def posts() -> Iterator[Pair | UnreadablePost]:
        for pair in some_posts(40):
            read.append(pair.id)
            yield UnreadablePost("line 3 is broken", pair.id) if pair.id == "3" else pair

    done: list[int] = []
    lines = Predictor(model)(posts(), progress=done.append)
    assert next(lines)["id"] == "0"
    assert len(read) == sum(done) == 8
    rest = list(lines)
    assert len(read) == sum(done) == 40
    assert rest[2] == {"id": "3", "error": "line 3 is broken"}


def test_bf16(model: BERTCRF) -> None:
    posts, dtypes = some_posts(60), set()
    hook = model.encoder.model.register_forward_hook(lambda *call: dtypes.add(call[-1].last_hidden_state.dtype))
    inner = model.encoder.model.encoder.layer[0].attention.self.query
    products = set()
    also = inner.register_forward_hook(lambda *call: products.add((call[1][0].dtype, call[-1].dtype)))
    full = list(Predictor(model)(posts))
    assert products == {(torch.float32, torch.float32)}
    half = list(Predictor(model, batching=BatchConfig(precision="bf16"))(posts))
    hook.remove(), also.remove()
    assert products == {(torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16)}, "no input is cast"
    assert dtypes == {torch.float32, torch.bfloat16}, "states are float32 again behind this hook"
    assert next(model.parameters()).dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu"), "no caller is left in it"
    same = sum(one == other for one, other in zip(spans(full), spans(half), strict=True))
    assert same >= 55, "bfloat16 has eight bits: few spans differ"
    known = zip(full, half, strict=True)
    assert (
        max(
            abs(a["score"] - b["score"])
            for one, other in known
            if spans([one]) == spans([other])
            for a, b in zip(one["entities"], other["entities"], strict=True)
        )
        < 0.05
    )


def test_auto_is_bf16_where_the_processor_has_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=has: has)
        assert resolve_precision("auto", cpu) == ("bf16" if has else "fp32")
    assert [resolve_precision(precision, cpu) for precision in ("fp32", "bf16")] == ["fp32", "bf16"]


@pytest.mark.parametrize("workers", [0, 2])
def test_weights_are_cast_once_a_window(model: BERTCRF, workers: int) -> None:
    weight = model.encoder.model.encoder.layer[1].intermediate.dense.weight
    config = BatchConfig(batch_pieces=100, workers=workers, precision="bf16")

    def count(graph: GraphState, pairs: Any) -> list[int]:
        assert torch.is_autocast_enabled("cpu"), "decoding has the precision of the rest"
        assert not torch.is_grad_enabled()
        return [len(model.decode(graph))] * len(pairs)

    with torch.profiler.profile(record_shapes=True) as profile:
        sizes = run_in_batches(model, some_posts(64), count, config=config)
    assert max(sizes) < 10
    copies = [event for event in profile.events() if event.name == "aten::_to_copy"]
    assert len(copies) > 100
    # two layers have a weight of this shape
    assert sum(event.input_shapes[0] == list(weight.shape) for event in copies) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_gives_the_entities_of_the_cpu(model: BERTCRF, workers: int) -> None:
    posts = some_posts(100)
    expected = spans(list(Predictor(model)(posts)))
    on_gpu = copy.deepcopy(model).cuda()
    assert spans(list(Predictor(on_gpu, batching=BatchConfig(workers=workers))(posts))) == expected
    half = spans(list(Predictor(on_gpu, batching=BatchConfig(workers=workers, precision="auto"))(posts)))
    assert sum(one == other for one, other in zip(half, expected, strict=True)) > 90


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_fails_is_computed_post_by_post(model: BERTCRF, workers: int) -> None:
    posts = some_posts(12)

    def check(given: Any, pairs: Any) -> list[str]:
        if any(pair.id == "5" for pair in pairs):
            raise RuntimeError("out of memory")
        return [f"{pair.id} of {len(pairs)}" for pair in pairs]

    def name(given: Any, pairs: Any) -> list[str]:
        return [pair.id for pair in pairs]

    config = BatchConfig(batch_pieces=64, workers=workers)
    for steps in ({"forward": check, "decode": name}, {"forward": name, "decode": check}):
        found = run_in_batches(model, posts, **steps, config=config, failed=lambda pair, error: f"{pair.id}: {error}")
        assert found[5] == "5: out of memory"
        assert [re.split("[ :]", text)[0] for text in found] == [str(index) for index in range(12)]
        with pytest.raises(RuntimeError, match="out of memory"):
            run_in_batches(model, posts, **steps, config=config)


@pytest.mark.filterwarnings("ignore:.* posts have no image features:UserWarning")
def test_explanations_take_the_same_path() -> None:
    torch.manual_seed(0)
    encoder = tiny_encoder(WORDS, hidden_size=16, num_layers=1, heads=2)
    umgf = UMGF(encoder, LabelSet.from_types(["PER"]), region_dim=4, num_heads=2, hidden_size=8).eval()
    posts = [
        Pair(pair.words, id=pair.id, objects=(DetectedObject("hat", (0, 0, 1, 1), region=torch.randn(4)),) * (n % 3))
        for n, pair in enumerate(some_posts(20))
    ]
    results = pipeline(umgf, batch_pieces=64)(posts)
    expected = predicted_alone(umgf, posts)
    assert [[(e["word_start"], e["word_end"], e["label"]) for e in one] for one in results] == expected
    for one, post in zip(results, posts, strict=True):
        assert all((entity["attention_box"] is None) == (not post.objects) for entity in one)


def test_a_bad_post_among_many_of_a_pipeline(model: BERTCRF) -> None:
    ner = pipeline(model)
    posts = some_posts(5)
    with pytest.warns(UserWarning, match="1 of 6 posts have an error.*the first: half of a surrogate"):
        results = ner([*posts[:2], Pair(("a", "\ud83d")), *posts[2:]])
    assert results[2].error.startswith("half of a surrogate pair")
    assert [result.error for result in results[:2] + results[3:]] == [None] * 5
    assert [list(result) for result in results[:2] + results[3:]] == [list(result) for result in ner(posts)]
    with pytest.raises(TypeError):
        ner(Pair(("a", "\ud83d")))


# --- files: killed, resumed, of any length -----------------------------------------------------------------


def written(path: Path, posts: list[Pair]) -> Path:
    path.write_text("".join(json.dumps({"id": pair.id, "words": list(pair.words)}) + "\n" for pair in posts))
    return path


def run(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.filterwarnings("always:1 of 401 posts")
def test_killed_at_random_moments(
    model: BERTCRF, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save_pretrained(tmp_path / "model")
    posts = written(tmp_path / "posts.jsonl", some_posts(400))
    with posts.open("a") as file:
        file.write('{"text": 7}\n')
    kept = json.loads(run("killed_predictions.py", tmp_path / "model", posts, tmp_path / "killed.jsonl", 32, 0))
    assert len(kept) > 3
    monkeypatch.setattr(predictor_module, "WINDOW", 32)
    arguments = ["predict", "--model", str(tmp_path / "model"), "--posts", str(posts), "--progress", "false"]
    main([*arguments, "--out", str(tmp_path / "whole.jsonl")])
    assert "1 of 401 posts have an error in the place of entities; the first error: " in capsys.readouterr().err
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["killed.jsonl", "model", "posts.jsonl", "whole.jsonl"]


def test_resume_is_of_the_same_run(model: BERTCRF, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save_pretrained(tmp_path / "model")
    posts, out = written(tmp_path / "posts.jsonl", some_posts(10)), tmp_path / "out.jsonl"
    arguments = ["predict", "--model", str(tmp_path / "model"), "--posts", str(posts), "--out", str(out)]

    def fault(*more: str) -> str:
        with pytest.raises(SystemExit):
            main([*arguments, "--progress", "false", *more])
        return capsys.readouterr().err

    (tmp_path / "out.jsonl.unfinished").write_text('{"id": "0"}\n')
    assert "out.jsonl.unfinished has lines of a run that was stopped: go on from them with --resume true" in fault()
    assert "out.jsonl.unfinished.json can't be read" in fault("--resume", "true")
    (tmp_path / "out.jsonl.unfinished.json").write_text(json.dumps({"precision": "bf16"}))
    message = fault("--resume", "true")
    assert "is of a run with other settings (" in message
    assert "precision: 'bf16', now 'fp32'" in message
    (tmp_path / "out.jsonl.unfinished").unlink()
    main([*arguments, "--progress", "false", "--resume", "true"])
    whole = out.read_bytes()
    main([*arguments, "--progress", "false", "--resume", "true"])
    assert "complete, with 10 posts; delete it to predict them again" in capsys.readouterr().out
    assert out.read_bytes() == whole
    written(posts, some_posts(11, seed=1))
    assert "is no result of these posts" in fault("--resume", "true")
    assert "resume goes with posts and out" in fault("--resume", "true", "--out", "null")


def test_output_file(tmp_path: Path) -> None:
    path, run_ = tmp_path / "a.jsonl", {"model": "m"}
    file = OutputFile(path, run_, resume=False, step=2).__enter__()
    file.write(['{"n": 0}', '{"n": 1}', '{"n": 2}'])
    with pytest.raises(OSError, match="another process is writing"):
        OutputFile(path, run_, resume=True, step=2).__enter__()
    assert file.describe_kept() == f"3 lines are in {path}.unfinished; --resume true goes on from them"
    file.__exit__(KeyError, KeyError(), None)
    assert not path.exists()
    with (tmp_path / "a.jsonl.unfinished").open("a") as half:
        half.write('{"n": 3}\n{"n": 4}\n{"n"')
    with OutputFile(path, run_, resume=True, step=2) as file:
        assert file.kept == 4
        assert list(file.kept_lines()) == [{"n": n} for n in range(4)]
        file.write(['{"n": 4}'])
    assert path.read_text() == "".join(f'{{"n": {n}}}\n' for n in range(5))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]
    OutputFile(tmp_path / "b", run_, resume=False, step=2).__enter__().__exit__(KeyError, KeyError(), None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"], "a run without a line leaves nothing"


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    few, many = json.loads(run("memory_of_predictions.py", tmp_path, 4096, 16384))
    assert many - few < 30, f"{few} MiB of 4,096 posts, {many} MiB of 16,384"
