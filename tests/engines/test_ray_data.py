"""Ray: as the plain path, with faulty posts, a killed driver and a further run. One small Ray for all tests."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from odd_images import noise

pytest.importorskip("pyarrow", reason="needs the extra ray")

from mnergraph import LabelSet, Predictor, Tagger, tiny_encoder
from mnergraph.cli.main import main
from mnergraph.data.formats.jsonl import stream_posts
from mnergraph.engines import ray_data
from mnergraph.engines.files import PostFiles, ResultFolder, result_schema
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.features.vision.ocr import OCR
from mnergraph.models import BERTCRF, MTBERTCRF
from mnergraph.pair import ContextText

WORDS = ["paris", "london", "ann", "lee", "sings", "in", "the", "rain"]
LABELS = LabelSet.from_types(["PER", "LOC"])
pytestmark = [
    # the commands' own are shown, as they are to a user
    pytest.mark.filterwarnings("always::UserWarning"),
    # Ray's own modules warn of themselves, and of processes that a test has ended
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors import no plugins that other tests have made and deleted."""
    monkeypatch.setattr("mnergraph.cli.many_machines.LOADED", frozenset())


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray of this test run."""
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # read when Ray is imported
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    pytest.importorskip("ray.data", reason="needs the extra ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    context = ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield context.address_info["address"]
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    encoder = tiny_encoder(WORDS, hidden_size=16, num_layers=1, heads=2)
    folder = tmp_path_factory.mktemp("ray") / "model"
    BERTCRF(encoder, LABELS).eval().save_pretrained(folder)
    return folder


def some_lines(count: int) -> list[dict[str, Any]]:
    chance = random.Random(0)
    lines: list[dict[str, Any]] = [
        {"id": f"p{n}", "text": " ".join(chance.choices(WORDS, k=chance.randint(1, 60)))} for n in range(count)
    ]
    lines[17] = {"id": "p17", "text": "   "}  # poisoned
    lines[60]["image"] = "gone.jpg"
    return lines


def write_parquet(lines: list[dict[str, Any]], file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({name: [line.get(name) for line in lines] for name in ("id", "text", "image")}), file)


def results(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(folder).to_pylist()
    return rows


def is_done(folder: Path) -> int:
    return len(list(folder.glob("[!._]*.parquet")))


def test_a_killed_driver_and_a_further_run(
    cluster: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = some_lines(300)
    write_parquet(lines[:200], tmp_path / "posts" / "a.parquet")
    write_parquet(lines[200:], tmp_path / "posts" / "b.parquet")
    out = tmp_path / "out"
    arguments = ["predict", "--engine", "ray", "--model", str(model), "--posts", str(tmp_path / "posts")]
    arguments += ["--out", str(out), "--progress", "false", "--workers"]
    script = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("killed_driver.py")), *arguments, "1"]
    there = {**os.environ, "RAY_ADDRESS": cluster}
    driver = subprocess.Popen(script, env=there, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 300
    while is_done(out) < 2 and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    driver.send_signal(signal.SIGKILL)
    said, _ = driver.communicate()
    before = is_done(out)
    assert 2 <= before < 30, said
    assert json.loads((out / "_run.json").read_text())["part_rows"] == 10
    times = {path: path.stat().st_mtime_ns for path in sorted(out.glob("a-*.parquet"))[:2]}

    main([*arguments, "2"])
    printed, warned = capsys.readouterr()
    assert "warning: 2 of 300 posts have an error in the place of entities: 'p17', 'p60'" in warned
    assert f"{out}: 300 posts, " in printed
    assert int(printed.partition("300 posts, ")[2].split()[0]) >= 20
    # what was there is not written again, and nothing is left unfinished
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert list(out.glob(".*")) == []
    found = {row["id"]: row for row in results(out)}
    assert len(results(out)) == len(found) == 300
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    wrong = []
    for line in Predictor(Tagger.from_pretrained(model))(stream_posts(plain)):
        row = found[line["id"]]
        if "error" in line:
            wrong.append(line["id"])
            assert row["entities"] is None
            assert line["error"].partition(": ")[2].startswith(row["error"].partition(f" {tmp_path}")[0])
            continue
        assert (row["error"], row["text"], row["missing"]) == (None, line["text"], [])
        scores = [[one.pop("score") for one in entities] for entities in (row["entities"], line["entities"])]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)
        assert [{name: one[name] for name in one if one[name] is not None} for one in row["entities"]] == line[
            "entities"
        ]
    assert wrong == ["p17", "p60"]
    assert sum(len(row["entities"] or ()) for row in found.values()) > 200

    # all is there: no actor is started; no other model is taken, and no other posts
    main([*arguments, "2"])
    assert "300 posts, 300 of them there before" in capsys.readouterr().out
    assert "results of other settings (precision: 'fp32', now 'bf16')" in refused(
        capsys, *arguments, "2", "--precision", "bf16"
    )
    (tmp_path / "posts" / "a.parquet").unlink()
    assert "has results of other posts, such as a-" in refused(capsys, *arguments, "2")


def in_this_process(job: Any, arguments: Any, posts: PostFiles, out: ResultFolder, **how: Any) -> int:
    """What `ray_data.run` does, without Ray: what an actor would get goes through pickle."""
    import pyarrow as pa

    part_rows = out.open({**how["settings"], "part_rows": 2})["part_rows"]
    made = job(**pickle.loads(pickle.dumps(arguments)))
    types = result_schema(posts.id_type, how["numbers"] or pa.float32())
    schema = pa.schema([(name, types[name]) for name in how["columns"]])
    for part in posts.parts(part_rows):
        out.write(posts.system, part, made, schema, posts.window)
    return 0


def test_features_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_data, "connect", lambda workers: ray_data.Share(0.0))
    monkeypatch.setattr(ray_data, "run", in_this_process)
    for place in range(3):
        noise(40, 30, seed=place).save(tmp_path / f"{place}.png")
    lines = [{"id": str(place), "text": "Ann", "image": f"{place}.png"} for place in range(4)]
    posts = tmp_path / "posts.jsonl"
    posts.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    arguments = ["features", "--engine", "ray", "--posts", str(posts), "--images", str(tmp_path)]
    extractor = ["--extractor", "BackboneGrid", "--extractor.size", "64", "--extractor.backbone", "resnet18"]
    main([*arguments, "--store", str(tmp_path / "out"), *extractor, "--dtype", "float16", "--progress", "false"])
    printed, warned = capsys.readouterr()
    assert printed == f"{tmp_path / 'out'}: 4 posts\n"
    assert "warning: 1 of 4 posts have an error in the place of features: '3'" in warned
    found = results(tmp_path / "out")
    assert [row["id"] for row in found] == list("0123")
    assert [row["text"] for row in found] == ["Ann"] * 3 + [None]
    assert "there is no image" in found[3]["error"]
    paths = [tmp_path / f"{place}.png" for place in range(3)]
    for row, evidence in zip(found, BackboneGrid("resnet18", size=64).extract(paths, progress=False), strict=False):
        assert evidence.grid is not None
        grid = torch.tensor(row["grid"]).reshape(row["grid_rows"], -1)
        torch.testing.assert_close(grid, evidence.grid, rtol=1e-3, atol=1e-3)
    # they are read as posts
    torch.manual_seed(0)
    encoder = tiny_encoder(WORDS, hidden_size=16, num_layers=1, heads=2)
    model = MTBERTCRF(encoder, LABELS, image_dim=512, num_heads=2, intermediate_size=16).eval()
    model.save_pretrained(tmp_path / "model")
    command = ["predict", "--engine", "ray", "--model", str(tmp_path / "model"), "--progress", "false"]
    assert PostFiles(str(tmp_path / "out")).window == 256
    main([*command, "--posts", str(tmp_path / "out"), "--out", str(tmp_path / "entities"), "--images", str(tmp_path)])
    assert "1 of 4 posts have an error in the place of entities: '3'" in capsys.readouterr().err
    assert [row["missing"] for row in results(tmp_path / "entities")] == [[]] * 4
    # of texts alone
    posts.write_text("".join(f"{json.dumps(line)}\n" for line in lines[:3]))
    read = ImageEvidence(context=(ContextText("ocr", "SALE"),))
    monkeypatch.setattr(OCR, "identity", lambda self: {})
    monkeypatch.setattr(OCR, "extract", lambda self, paths, phrases, **how: [read] * len(paths))
    main([*arguments, "--store", str(tmp_path / "texts"), "--extractor", "OCR", "--progress", "false"])
    assert [row["context"] for row in results(tmp_path / "texts")] == [[{"source": "ocr", "text": "SALE"}]] * 3


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        main(list(arguments))
    return capsys.readouterr().err


def test_what_is_refused_before_work_starts(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(some_lines(70), tmp_path / "posts" / "a.parquet")
    posts, out = ["--posts", str(tmp_path / "posts")], ["--out", str(tmp_path / "out")]
    command = ["predict", "--engine", "ray", "--model", str(model)]
    assert "writes into the folder --out" in refused(capsys, *command, *posts)
    assert "captions can't go with it" in refused(capsys, *command, *posts, *out, "--captions", "captions.jsonl")
    assert "no file or folder of posts" in refused(capsys, *command, "--posts", str(tmp_path / "gone"), *out)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "--engine ray needs Ray Data: pip install 'mnergraph[ray]'" in refused(capsys, *command, *posts, *out)
    monkeypatch.undo()

    torch.manual_seed(0)
    encoder = tiny_encoder(WORDS, hidden_size=16, num_layers=1, heads=2)
    folder = tmp_path / "image_model"
    MTBERTCRF(encoder, LABELS, image_dim=8, num_heads=2, intermediate_size=16).eval().save_pretrained(folder)
    said = refused(capsys, "predict", "--engine", "ray", "--model", str(folder), *posts, *out)
    assert "the model reads image features, which no post has: give" in said
    assert not (tmp_path / "out").exists()
    command = ["features", "--engine", "ray", "--images", ".", "--store", str(tmp_path / "out"), "--extractor", "OCR"]
    assert "--engine ray goes with --posts" in refused(capsys, *command)
    assert "Parquet has no bfloat16" in refused(capsys, *command, *posts, "--dtype", "bfloat16")


def test_more_workers_than_cpus(cluster: str) -> None:
    assert ray_data.connect(3).gpus == 0 or torch.cuda.is_available()
    with pytest.raises(ValueError, match="the cluster has 3 CPUs, one for each worker: give --workers 3 at most"):
        ray_data.connect(4)
    with pytest.raises(ValueError, match="workers is 0"):
        ray_data.connect(0)


class StubRay:
    """What `ray_data.connect` calls; as Ray does, it takes over the signal."""

    def __init__(self, **resources: float) -> None:
        self.resources, self.given = resources, {}

    def is_initialized(self) -> bool:
        return False

    def init(self, **given: Any) -> None:
        self.given = given
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def cluster_resources(self) -> dict[str, float]:
        return self.resources


@pytest.mark.parametrize(("gpus", "workers", "share"), [(0, 2, 0), (2, 2, 1), (4, 2, 1), (2, 3, 0.5), (1, 4, 0.25)])
def test_shares_of_gpus(gpus: int, workers: int, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = StubRay(CPU=8, GPU=gpus)
    monkeypatch.setattr(ray_data, "require_ray", lambda: stub)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    assert ray_data.connect(workers).gpus == share
    assert signal.getsignal(signal.SIGTERM) == before
    assert stub.given["address"] == "local"
    assert stub.given["num_cpus"] > workers
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    ray_data.connect(workers)
    assert "address" not in stub.given


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (["the job failed", "row 3:\n no such type"], "ValueError: no such type"),
        (["the job failed\nThe actor died.", ""], "ValueError: The actor died."),
        ([""], "ValueError: "),
    ],
)
def test_the_error_behind_rays_is_named(messages: list[str], said: str) -> None:
    errors = [ValueError(message) for message in messages]
    for error, behind in itertools.pairwise(errors):
        error.__cause__ = behind
    assert ray_data._cause(errors[0]) == said
