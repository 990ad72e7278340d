"""Ray: as the plain path, with faulty posts, a killed driver and a further run. One small Ray for all tests."""

from __future__ import annotations

import json
import os
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

from mnergraph import LabelSet, Predictor, Tagger, tiny_encoder
from mnergraph.cli.main import main
from mnergraph.data.formats.jsonl import stream_posts
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.models import BERTCRF, MTBERTCRF

WORDS = ["paris", "london", "ann", "lee", "sings", "in", "the", "rain"]
LABELS = LabelSet.from_types(["PER", "LOC"])
# Ray's own modules warn of themselves, and of processes that a test has ended
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray of this test run."""
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    pytest.importorskip("ray.data", reason="needs the extra ray")
    before = os.environ.get("RAY_ADDRESS")
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
    assert os.environ.get("RAY_ADDRESS") == before


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
    lines = some_lines(480)
    write_parquet(lines[:300], tmp_path / "posts" / "a.parquet")
    write_parquet(lines[300:], tmp_path / "posts" / "b.parquet")
    out = tmp_path / "out"
    arguments = ["predict", "--engine", "ray", "--model", str(model), "--posts", str(tmp_path / "posts")]
    arguments += ["--out", str(out), "--progress", "false", "--workers"]
    script = [sys.executable, str(Path(__file__).with_name("killed_driver.py")), *arguments, "1"]
    driver = subprocess.Popen(
        script, env={**os.environ, "RAY_ADDRESS": cluster}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 300
    while is_done(out) < 3 and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    driver.send_signal(signal.SIGKILL)
    said, _ = driver.communicate()
    before = is_done(out)
    assert 3 <= before < 120, said
    assert json.loads((out / "_run.json").read_text())["part_rows"] == 4
    times = {path: path.stat().st_mtime_ns for path in sorted(out.glob("a-*.parquet"))[:2]}

    with pytest.warns(UserWarning, match="2 of 480 posts have an error in the place of entities: 'p17', 'p60'"):
        main([*arguments, "2"])
    printed = capsys.readouterr().out
    assert f"{out}: 480 posts, " in printed
    assert int(printed.partition("480 posts, ")[2].split()[0].replace(",", "")) >= 12
    # what was there is not written again, and nothing is left unfinished
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert list(out.glob(".*")) == []
    found = {row["id"]: row for row in results(out)}
    assert len(results(out)) == len(found) == 480
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    wrong = []
    for line in Predictor(Tagger.from_pretrained(model))(stream_posts(plain)):
        row = found[line["id"]]
        if "error" in line:
            wrong.append(line["id"])
            assert row["entities"] is None
            assert line["error"].partition(": ")[2].startswith(row["error"])
            continue
        assert (row["error"], row["text"], row["missing"]) == (None, line["text"], [])
        scores = [[one.pop("score") for one in entities] for entities in (row["entities"], line["entities"])]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)
        assert row["entities"] == line["entities"]
    assert wrong == ["p17", "p60"]
    assert sum(len(row["entities"] or ()) for row in found.values()) > 300

    # all is there: no actor is started; files may be added, and no other model taken
    with pytest.warns(UserWarning, match="2 of 480"):
        main([*arguments, "2"])
    assert "480 posts, 480 of them there before" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "2", "--precision", "bf16"])
    assert "results of other settings (precision: 'fp32', now 'bf16')" in capsys.readouterr().err
    (tmp_path / "posts" / "a.parquet").unlink()
    with pytest.raises(SystemExit):
        main([*arguments, "2"])
    assert "has results of other posts, such as a-" in capsys.readouterr().err


def test_features_of_images(cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from odd_images import noise

    for place in range(3):
        noise(40, 30, seed=place).save(tmp_path / f"{place}.png")
    lines = [{"id": str(place), "text": "Ann", "image": f"{place}.png"} for place in range(4)]
    (tmp_path / "posts.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    arguments = ["features", "--engine", "ray", "--posts", str(tmp_path / "posts.jsonl"), "--images", str(tmp_path)]
    arguments += ["--store", str(tmp_path / "out"), "--extractor", "BackboneGrid", "--extractor.size", "32"]
    with pytest.warns(UserWarning, match="1 of 4 posts have an error in the place of entities: '3'"):
        main([*arguments, "--extractor.backbone", "resnet18", "--dtype", "float16", "--progress", "false"])
    found = results(tmp_path / "out")
    assert [row["id"] for row in found] == list("0123")
    assert [row["text"] for row in found] == ["Ann"] * 3 + [None]
    assert "there is no image" in found[3]["error"]
    for place, evidence in enumerate(
        BackboneGrid("resnet18", size=32).extract([tmp_path / f"{place}.png" for place in range(3)], progress=False)
    ):
        row = found[place]
        assert evidence.grid is not None
        torch.testing.assert_close(
            torch.tensor(row["grid"]).reshape(row["grid_rows"], -1), evidence.grid, rtol=1e-2, atol=1e-2
        )


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        main(list(arguments))
    return capsys.readouterr().err


def test_what_is_refused_before_work_starts(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra ray")
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
    from mnergraph.engines.ray_data import connect

    assert connect(3).gpus == 0 or torch.cuda.is_available()
    with pytest.raises(ValueError, match="the cluster has 3 CPUs, one for each worker: give --workers 3 at most"):
        connect(4)
    with pytest.raises(ValueError, match="workers is 0"):
        connect(0)
