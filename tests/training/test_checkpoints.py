"""Checkpoints that are damaged, missing, of another model, or that the disk does not take."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mnergraph.models import Tagger
from mnergraph.pair import Pair
from mnergraph.training import TrainerConfig, fit
from mnergraph.training.checkpoints import AtomicCheckpointIO, damage, has_checkpoint, readable_checkpoint

Posts = Callable[[int, int], list[Pair]]
Build = Callable[..., Tagger]
MakeLoop = Callable[..., TrainerConfig]


@pytest.fixture
def run(build: Build, posts: Posts, loop: MakeLoop, tmp_path: Path) -> Callable[..., dict[str, torch.Tensor]]:
    def go(resume: bool = False) -> dict[str, torch.Tensor]:
        model = build(dropout=0.3)
        trained = fit(model, posts(12, 1), posts(4, 2), tmp_path / "run", trainer=loop(), resume=resume)
        return {name: value.clone() for name, value in trained.state_dict().items()}

    return go


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, flip, empty, Path.unlink])
def test_falls_back_to_the_one_before(
    harm: Callable[[Path], None], run: Callable[..., dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    whole = run()
    folder = tmp_path / "run" / "checkpoints"
    harm(folder / "last.ckpt")
    with pytest.warns(UserWarning, match=r"last\.ckpt can't be read: .*: the run continues from previous\.ckpt"):
        again = run(resume=True)
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_nothing_to_fall_back_to(run: Callable[..., dict[str, torch.Tensor]], tmp_path: Path) -> None:
    run()
    folder = tmp_path / "run" / "checkpoints"
    cut(folder / "last.ckpt")
    flip(folder / "previous.ckpt")
    with pytest.raises(
        ValueError, match=r"last\.ckpt can't be read.*previous\.ckpt can't be read.*another folder"
    ) as raised:
        run(resume=True)
    assert "\n" not in str(raised.value)


def test_damaged_best_weights_are_found_before_training(
    run: Callable[..., dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    run()
    cut(tmp_path / "run" / "checkpoints" / "best.ckpt")
    with pytest.raises(ValueError, match=r"best\.ckpt can't be read: .*another folder"):
        run(resume=True)


def test_of_another_model(
    build: Build, posts: Posts, loop: MakeLoop, run: Callable[..., dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    run()
    with pytest.raises(ValueError, match=r"last\.ckpt is of another model: .* is .* there and .* here"):
        fit(build("UMGF"), posts(12, 1), posts(4, 2), tmp_path / "run", trainer=loop(), resume=True)


def test_first_checkpoint_has_none_before(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        readable_checkpoint(tmp_path)
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, tmp_path / "last.ckpt")
    assert readable_checkpoint(tmp_path).name == "last.ckpt"
    assert damage(tmp_path / "last.ckpt") is None
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files can't grow beyond 100 kB, as on a full disk."""
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def test_disk_full(tmp_path: Path, small_files: None) -> None:
    save = AtomicCheckpointIO().save_checkpoint
    for step in range(2):
        save({"step": step}, tmp_path / "last.ckpt")
    with pytest.raises(OSError, match=r"last\.ckpt"):
        save({"state_dict": torch.zeros(100_000)}, tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"step": 1}
    assert torch.load(tmp_path / "previous.ckpt", weights_only=True) == {"step": 0}
    assert len(list(tmp_path.iterdir())) == 2
