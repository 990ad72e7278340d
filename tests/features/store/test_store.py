"""The feature store: round trip, refused manifests, killed writers, corrupt shards, concurrent readers."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from mnergraph.features.store.manifest import Manifest, StoreError
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.store.writer import StoreWriter

MANIFEST = Manifest("resnet", settings={"depth": 18, "grid": {"rows": 7}}, weights="random, seed 0")


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def record(number: int) -> dict[str, Tensor]:
    """Return the features of an image: a map, and ``number % 3`` boxes."""
    rng = torch.Generator().manual_seed(number)
    return {
        "map": torch.randn(4, 3, generator=rng),
        "boxes": torch.randn(number % 3, 4, generator=rng),
        "place": torch.tensor([number]),
    }


def fill(folder: Path, numbers: range, **settings: Any) -> None:
    with StoreWriter(folder, MANIFEST, **settings) as writer:
        for number in numbers:
            if key(number) not in writer:
                writer.add(key(number), record(number), {"labels": ["ä"] * (number % 3)})


def check(store: FeatureStore, numbers: range) -> None:
    assert set(store) == {key(number) for number in numbers}
    assert len(store) == len(numbers)
    for number in numbers:
        found = store[key(number)]
        assert found.keys() == record(number).keys()
        assert all(torch.equal(found[name], rows) for name, rows in record(number).items())
        assert store.info(key(number)) == {"labels": ["ä"] * (number % 3)}


@pytest.mark.parametrize(("images", "shards"), [(1, 7), (3, 3), (7, 1), (100, 1)])
def test_a_shard_is_written_after_a_number_of_images(tmp_path: Path, images: int, shards: int) -> None:
    fill(tmp_path / "store", range(7), shard_images=images)
    assert len(list((tmp_path / "store").glob("*.safetensors"))) == shards
    assert len(FeatureStore(tmp_path / "store")) == 7
    with pytest.raises(ValueError, match="a shard has at least one byte and one image"):
        fill(tmp_path / "other", range(7), shard_images=0)


@pytest.mark.parametrize("shard_bytes", [1, 200, 10**9])
def test_what_is_written_is_read(tmp_path: Path, shard_bytes: int) -> None:
    fill(tmp_path / "store", range(7), shard_bytes=shard_bytes)
    store = FeatureStore(tmp_path / "store", MANIFEST)
    check(store, range(7))
    assert key(99) not in store
    with pytest.raises(KeyError, match=f"has no entry of {key(99)}; it has 7 images"):
        store[key(99)]
    assert store.verify() == []
    check(pickle.loads(pickle.dumps(store)), range(7))
    shards = {1: 7, 200: 3, 10**9: 1}[shard_bytes]
    assert len(list((tmp_path / "store").glob("*.safetensors"))) == shards


def test_appended_in_a_second_run_and_by_parts(tmp_path: Path) -> None:
    fill(tmp_path, range(3), shard_bytes=1)
    early = FeatureStore(tmp_path)
    fill(tmp_path, range(5), shard_bytes=1)
    with StoreWriter(tmp_path, MANIFEST, part=1) as writer:
        assert key(4) in writer, "a writer reads the parts of others"
        writer.add(key(5), record(5), {"labels": ["ä"] * 2})
        assert key(5) in writer
        with (
            pytest.raises(StoreError, match="another process writes part 1 of"),
            StoreWriter(tmp_path, MANIFEST, part=1),
        ):
            pass
    check(early.refresh(), range(6))
    check(FeatureStore(tmp_path), range(6))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_by_choice(tmp_path: Path, dtype: str) -> None:
    made_by = Manifest("resnet", dtype=dtype)
    with StoreWriter(tmp_path, made_by) as writer:
        writer.add(key(2), record(2))
    found = FeatureStore(tmp_path)[key(2)]
    assert torch.equal(found["map"], record(2)["map"].to(getattr(torch, dtype)))
    assert found["place"].dtype == torch.long
    assert FeatureStore(tmp_path).info(key(2)) is None


def test_records_are_mapped_not_copied(tmp_path: Path) -> None:
    fill(tmp_path, range(5))
    store = FeatureStore(tmp_path)
    first, second = store[key(0)]["map"], store[key(1)]["map"]
    assert second.data_ptr() - first.data_ptr() == first.nbytes


def test_another_manifest_is_refused_with_the_differences(tmp_path: Path) -> None:
    fill(tmp_path, range(1))
    other = Manifest("resnet", settings={"depth": 50, "grid": {"rows": 7}, "top": 3}, weights="abc")
    message = (
        r"settings\.depth: 18 there, 50 here; settings\.top: 'nothing' there, 3 here; "
        r"weights: 'random, seed 0' there, 'abc' here\. Take another folder"
    )
    with pytest.raises(StoreError, match=message):
        FeatureStore(tmp_path, other)
    with pytest.raises(StoreError, match=message), StoreWriter(tmp_path, other):
        pass
    fill(tmp_path, range(2))  # the refused writer holds no lock


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is no feature store: it has no manifest\.json"):
        FeatureStore(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match=r"manifest\.json is no manifest of a feature store: .*extractor"):
        FeatureStore(tmp_path)
    with pytest.raises(ValueError, match="dtype is float32, float16 or bfloat16, not 'int8'"):
        Manifest("x", dtype="int8")
    with pytest.raises(TypeError, match="not JSON serializable"):
        Manifest("x", settings={"device": object()})


def test_records_that_do_not_fit(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, MANIFEST) as writer:
        writer.add(key(1), record(1))
        with pytest.raises(ValueError, match="a key is a SHA-256 of 64 hexadecimal digits, not 'ab'"):
            writer.add("ab", record(1))
        for name, rows in {"info": torch.ones(1), "a.ptr": torch.ones(1), "a": torch.tensor(1.0)}.items():
            with pytest.raises(ValueError, match=f"other than key, info or .*, not '{name}'"):
                writer.add(key(2), {name: rows})
        with pytest.raises(ValueError, match=rf"{key(2)}: rows of map are \[2\], those before \[3\]"):
            writer.add(key(2), {"map": torch.ones(1, 2)})
    assert set(FeatureStore(tmp_path)) == {key(1)}


def test_a_feature_that_an_image_lacks_has_no_rows(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, MANIFEST) as writer:
        writer.add(key(0), {})
        writer.add(key(1), {"regions": torch.ones(2, 3)})
    store = FeatureStore(tmp_path)
    assert store[key(0)]["regions"].shape == (0, 3)
    assert torch.equal(store[key(1)]["regions"], torch.ones(2, 3))


# --- killed


class Killed(BaseException):
    """Stands for a signal, raised at a chosen call."""


def test_killed_at_every_write_it_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill at any call that writes, readers find complete records only, and a new run adds the others."""
    steps = 0
    for last in range(1000):
        folder, left = tmp_path / str(last), last

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def step(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                return call(*args, **kwargs)

            return step

        with monkeypatch.context() as patch:
            for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "write_bytes"), (Path, "open")):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            patch.setattr(safetensors.torch, "save_file", counted(safetensors.torch.save_file))
            try:
                fill(folder, range(2), shard_bytes=1)
            except Killed:
                steps += 1
            else:
                break
        if (folder / "manifest.json").is_file():
            for known in FeatureStore(folder):
                assert known in {key(number) for number in range(2)}
        fill(folder, range(2), shard_bytes=1)
        check(FeatureStore(folder), range(2))
        assert not list(folder.glob("*.unfinished"))
    assert steps > 15


def test_a_process_that_dies_leaves_what_it_had_flushed(tmp_path: Path) -> None:
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; import test_store as t\n"
        "with t.StoreWriter(Path(sys.argv[1]), t.MANIFEST, shard_bytes=1) as w:\n"
        "    for n in range(3): w.add(t.key(n), t.record(n), {'labels': ['ä'] * (n % 3)})\n"
        "    w.shard_bytes = 10**9; w.add(t.key(3), t.record(3)); os._exit(9)\n"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), here], check=False)
    assert done.returncode == 9
    check(FeatureStore(tmp_path), range(3))
    fill(tmp_path, range(5))
    check(FeatureStore(tmp_path), range(5))


@pytest.mark.parametrize("damage", ["cut", "gone", "header"])
def test_a_corrupt_shard_is_named_and_replaced(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, range(4), shard_bytes=1)
    shard = tmp_path / "shard-0-000001.safetensors"
    content = shard.read_bytes()
    if damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes(content[:-5] if damage == "cut" else b"\xff" * 8 + content[8:])
    with pytest.raises(StoreError, match=r"a corrupt shard: .*shard-0-000001\.safetensors .*again replaces it"):
        FeatureStore(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert len(FeatureStore(tmp_path, skip_corrupt=True)) == 3
        fill(tmp_path, range(4))
    assert "a corrupt shard, left out" in caplog.text
    check(FeatureStore(tmp_path), range(4))


def test_verify_reads_every_byte(tmp_path: Path) -> None:
    fill(tmp_path, range(3), shard_bytes=1)
    shard = tmp_path / "shard-0-000002.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert FeatureStore(tmp_path).verify() == [shard.name]


def test_a_damaged_list(tmp_path: Path) -> None:
    fill(tmp_path, range(2), shard_bytes=1)
    path = tmp_path / "shards-0.jsonl"
    whole = path.read_text()
    path.write_text(whole + whole.splitlines()[0][:20])
    check(FeatureStore(tmp_path), range(2))
    path.write_text("nonsense\n" + whole)
    with pytest.raises(StoreError, match=r"shards-0\.jsonl:1: no line of a feature store"):
        FeatureStore(tmp_path)


def test_two_readers_during_a_write(tmp_path: Path) -> None:
    """Reader processes find complete records only while the store is written."""
    fill(tmp_path, range(1))
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); import torch, test_store as t\n"
        "store = t.FeatureStore(sys.argv[1]); print('ready', flush=True); count = 0\n"
        "while len(store) < 40:\n"
        "    store.refresh(); assert len(store) >= count; count = len(store)\n"
        "t.check(store, range(40)); print('whole')\n"
    )
    here = str(Path(__file__).parent)
    readers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), here], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    fill(tmp_path, range(40), shard_bytes=1)
    for reader in readers:
        out, _ = reader.communicate(timeout=60)
        assert (reader.returncode, out) == (0, "whole\n")
    assert json.loads((tmp_path / "manifest.json").read_text())["extractor"] == "resnet"
