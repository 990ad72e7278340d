"""Region vectors: equal to the backbone's output for crops, cached on disk, for unusual images too."""

from __future__ import annotations

import http.server
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from odd_images import save_rotated
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.v2 import functional as pixels

from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.image_io import open_image
from mnergraph.pair import Box, DetectedObject, Pair

CROPS = RegionEncoder(size=32)
BOXES: list[Box] = [(0, 0, 40, 30), (3.2, 5.9, 17.4, 20.6), (30, 20, 30.2, 20.1), (-5, -5, 99, 99)]


def noise(width: int = 40, height: int = 30, seed: int = 0, mode: str = "RGB") -> Image.Image:
    torch.manual_seed(seed)
    return pixels.to_pil_image(torch.randint(0, 256, (3, height, width), dtype=torch.uint8)).convert(mode)


def image_file(folder: Path, name: str = "1.png", seed: int = 0) -> Path:
    noise(seed=seed).save(folder / name)
    return folder / name


def pair(path: Path | None, *boxes: Box, id: str = "7") -> Pair:
    return Pair(("a", "word"), id=id, image_path=path, objects=tuple(DetectedObject("thing", box=box) for box in boxes))


def regions(pairs: list[Pair]) -> list[torch.Tensor | None]:
    return [obj.region for one in pairs for obj in one.objects]


# --- the numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_a_region_equals_torchvisions_output_for_the_crop(backbone: str) -> None:
    crops = RegionEncoder(backbone, size=32, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = getattr(torchvision.models, backbone)(weights=None).eval()
    net.fc = torch.nn.Identity()
    whole = noise()
    found = crops(whole, BOXES)
    for row, corners in zip(found, [(0, 0, 40, 30), (3, 5, 17, 21), (30, 20, 31, 21), (0, 0, 40, 30)], strict=True):
        crop = pixels.pil_to_tensor(whole.crop(corners).resize((32, 32), Image.Resampling.BILINEAR)) / 255
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        with torch.no_grad():
            expected = net(pixels.normalize(crop, mean, std)[None])[0]
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-4)
    assert found.shape == (4, crops.out_channels)
    assert crops.out_channels == {"resnet18": 512, "resnet50": 2048}[backbone]
    assert crops(whole, []).shape == (0, crops.out_channels)
    assert not crops.model.training
    assert not any(weight.requires_grad for weight in crops.model.parameters())


def test_boxes_outside_the_image_are_clipped_to_its_border() -> None:
    whole = noise()
    found = CROPS(whole, [(50, 50, 60, 60), (-9, -9, -3, -3)])
    assert torch.equal(found, CROPS(whole, [(39, 29, 40, 30), (0, 0, 1, 1)]))


def test_results_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    posts = [
        pair(image_file(tmp_path, "1.png", 1), *BOXES),
        pair(None),
        pair(image_file(tmp_path, "2.png", 2), *BOXES[:1]),
        pair(image_file(tmp_path, "3.png", 3), *BOXES[:2]),
    ]
    together = regions(CROPS.attach(posts, progress=False))
    for size in (1, 3):
        apart = regions(replace(CROPS, batch_size=size).attach(posts, progress=False))
        for one, other in zip(together, apart, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    alone = [row for post in posts for row in regions(CROPS.attach([post], progress=False))]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_random_weights_depend_on_the_seed_only() -> None:
    torch.manual_seed(11)
    first = CROPS(noise(), BOXES)
    torch.manual_seed(12)
    state = torch.get_rng_state()
    again = RegionEncoder(size=32).model
    assert torch.equal(torch.get_rng_state(), state), "torch's random state is left alone"
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), CROPS.model.parameters(), strict=True))
    assert not torch.allclose(RegionEncoder(size=32, seed=1)(noise(), BOXES), first)


def test_names_have_the_settings() -> None:
    assert RegionEncoder().name == "resnet18-random-seed0-224px"
    assert RegionEncoder("resnet50", "/some/where/mine.pth", size=64).name == "resnet50-mine-64px"
    with pytest.raises(ValueError, match=r"backbone 'vgg' is not among resnet18, resnet34,"):
        RegionEncoder("vgg")


def test_vectors_can_be_trained_on(tmp_path: Path) -> None:
    (found,) = CROPS.attach([pair(image_file(tmp_path), BOXES[0])], progress=False)
    row = found.objects[0].region
    assert row is not None
    assert not row.is_inference()
    (row * torch.ones(512, requires_grad=True)).sum().backward()


# --- the cache -------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of posts of every computation of regions."""
    calls: list[int] = []
    compute = RegionEncoder._compute

    def counting_compute(self: RegionEncoder, pairs: list[Pair], progress: bool) -> dict[str, torch.Tensor]:
        calls.append(len(pairs))
        return compute(self, pairs, progress)

    monkeypatch.setattr(RegionEncoder, "_compute", counting_compute)
    return calls


def test_the_cache_gives_the_same_and_misses_what_changed(tmp_path: Path, counted: list[int]) -> None:
    path, cache = image_file(tmp_path), tmp_path / "cache"
    posts = [pair(path, *BOXES[:2]), pair(None, id="8")]
    first = CROPS.attach(posts, cache, progress=False)
    again = RegionEncoder(size=32).attach(posts, cache, progress=False)
    assert counted == [2]
    assert first == again
    for one, other in zip(regions(first), regions(again), strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
    assert [file.suffix for file in cache.iterdir()] == [".safetensors"]

    CROPS.attach([pair(path, BOXES[0], (3, 5, 17, 22)), posts[1]], cache, progress=False)
    assert len(counted) == 2, "another box"
    replace(CROPS, seed=1).attach(posts, cache, progress=False)
    replace(CROPS, size=16).attach(posts, cache, progress=False)
    assert len(counted) == 4, "other settings"
    noise(seed=9).save(path, compress_level=0)
    changed = CROPS.attach(posts, cache, progress=False)
    assert len(counted) == 5, "another image"
    assert not torch.allclose(regions(changed)[0], regions(first)[0])  # type: ignore[arg-type]


def test_other_weights_in_the_same_file_miss_the_cache(tmp_path: Path, counted: list[int]) -> None:
    weights = tmp_path / "mine.pth"
    for seed, buffers in ((1, True), (2, False)):
        net = torchvision.models.resnet18(weights=None)
        torch.nn.init.constant_(net.conv1.weight, seed)
        state = net.state_dict()
        torch.save(state if buffers else {**state, "fc.more": torch.zeros(3)}, weights)
        RegionEncoder(weights=str(weights), size=32).attach([pair(image_file(tmp_path), BOXES[0])], tmp_path / "cache")
    assert len(counted) == 2


# --- unusual images ------------------------------------------------------------------------------------


def faulty_files(folder: Path) -> dict[str, Path]:
    """Return the paths of files that cannot be read as images, by fault."""
    whole = image_file(folder, "whole.png").read_bytes()
    noise().save(folder / "whole.jpg")
    contents = {
        "truncated": whole[: len(whole) // 2],
        "truncated.jpg": (folder / "whole.jpg").read_bytes()[:300],
        "empty": b"",
        "html": b"<!DOCTYPE html><html>gone</html>",
        "noise": bytes(range(256)),
        "broken chunk": whole[:50] + b"\xff" * 40 + whole[90:],
    }
    paths = {}
    for name, content in contents.items():
        paths[name] = folder / f"{name}{'' if '.' in name else '.png'}"
        paths[name].write_bytes(content)
    return {**paths, "missing": folder / "missing.png", "folder": folder}


def test_unreadable_images_are_counted_and_skipped(tmp_path: Path) -> None:
    paths = faulty_files(tmp_path)
    bad = [pair(path, BOXES[0], id=name) for name, path in paths.items()]
    good = pair(image_file(tmp_path), BOXES[0], id="good")
    for cache in (None, tmp_path / "cache"):
        with pytest.warns(UserWarning, match=rf"^{len(bad)} images can't be read; .* no region vector") as message:
            found = CROPS.attach([*bad, good], cache, progress=False)
        assert "truncated (" in str(message[0].message)
        assert [row is None for row in regions(found)] == [True] * len(bad) + [False]
        assert found[:-1] == bad


def test_unreadable_images_without_boxes_are_counted_too(tmp_path: Path) -> None:
    bad = [pair(path, id=name) for name, path in faulty_files(tmp_path).items()]
    with pytest.warns(UserWarning, match=rf"^{len(bad)} images can't be read"):
        assert CROPS.attach(bad, progress=False) == bad


def test_a_decompression_bomb_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image_file(tmp_path)
    for limit in (1000, 100):  # Pillow warns beyond the limit and refuses beyond twice of it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(OSError, match=r"1.png: .*decompression bomb"):
            open_image(path)
        with pytest.warns(UserWarning, match=r"^1 images can't be read.*decompression bomb"):
            CROPS.attach([pair(path, BOXES[0])], progress=False)


def unusual_images(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the names and paths of unusual images that can be read."""
    for mode, suffix in (("RGBA", "png"), ("P", "gif"), ("CMYK", "jpg"), ("L", "png"), ("1", "png")):
        path = folder / f"{mode}.{suffix}"
        noise(mode=mode).save(path)
        yield mode, path
    path = folder / "transparent.png"
    noise(mode="P").save(path, transparency=bytes(range(256)))
    yield "palette with transparency", path
    path = folder / "sixteen.png"
    Image.new("I;16", (9, 9)).save(path)
    yield "sixteen bits", path
    path = folder / "wrong.jpg"
    noise().save(path, "PNG")
    yield "wrong suffix", path
    path = folder / "1x1.png"
    noise(1, 1).save(path)
    yield "one pixel", path
    path = folder / "thin.png"
    noise(300, 1).save(path)
    yield "thin", path


def test_unusual_images_have_regions(tmp_path: Path) -> None:
    posts = [pair(path, *BOXES, id=name) for name, path in unusual_images(tmp_path)]
    posts += [replace(post, objects=()) for post in posts]
    found = CROPS.attach(posts, progress=False)
    for post in found:
        assert post.objects
        for obj in post.objects:
            assert obj.region is not None, post.id
            assert obj.region.shape == (512,)
            assert torch.isfinite(obj.region).all()


def test_a_wrong_suffix_changes_nothing(tmp_path: Path) -> None:
    noise().save(tmp_path / "wrong.jpg", "PNG")
    found = CROPS.attach([pair(tmp_path / "wrong.jpg", *BOXES)], progress=False)
    for row, expected in zip(regions(found), CROPS(noise(), BOXES), strict=True):
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("orientation", [3, 6])
def test_boxes_follow_the_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """Boxes in pixels of the upright image, of the stored image, and of an image of twice the size."""
    save_rotated(noise(), tmp_path / "rotated.png", orientation)
    (expected,) = CROPS(noise(), [(3, 5, 17, 21)])
    given: list[tuple[Box, tuple[int, int]]] = [((3, 5, 17, 21), (40, 30)), ((6, 10, 34, 42), (80, 60))]
    if orientation == 6:
        given.append(((5, 23, 21, 37), (30, 40)))
    for box, size in given:
        post = replace(pair(tmp_path / "rotated.png", box), size=size)
        (found,) = regions(CROPS.attach([post], progress=False))
        torch.testing.assert_close(found, expected)


def test_without_boxes_the_whole_image_is_an_object(tmp_path: Path) -> None:
    post = replace(pair(image_file(tmp_path)), objects=(DetectedObject("a hat"),))
    found = CROPS.attach([post, pair(None)], progress=False)
    whole, hat = found[0].objects
    assert (whole.label, whole.box, whole.span) == ("", (0, 0, 40, 30), None)
    assert found[0].size == (40, 30)
    assert hat == DetectedObject("a hat")
    assert hat.region is None
    torch.testing.assert_close(whole.region, CROPS(noise(), [(0, 0, 40, 30)])[0])
    assert found[1].objects == ()


# --- weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("classifier", [True, False])
def test_weights_from_a_file(tmp_path: Path, suffix: str, classifier: bool) -> None:
    torch.manual_seed(5)
    state = torchvision.models.resnet18(weights=None).state_dict()
    if not classifier:
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    found = RegionEncoder(weights=str(path), size=32)(noise(), BOXES)
    torch.testing.assert_close(found, RegionEncoder(seed=5, size=32)(noise(), BOXES))


def test_no_such_weights(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"weights='nowhere.pth' is neither 'random', 'imagenet' nor a file of weights",
    ):
        _ = RegionEncoder(weights="nowhere.pth").model


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_something_else(tmp_path: Path, suffix: str) -> None:
    text, other = tmp_path / f"text{suffix}", tmp_path / f"other{suffix}"
    text.write_text("not weights")
    if suffix == ".pth":
        torch.save({"conv1.weight": torch.zeros(3)}, other)
    else:
        save_file({"conv1.weight": torch.zeros(3)}, other)
    for path in (text, other):
        with pytest.raises(ValueError, match=rf"weights='.*{suffix}' are not those of resnet18: right is the"):
            _ = RegionEncoder(weights=str(path)).model


def test_imagenet_offline_names_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    url = torchvision.models.ResNet50_Weights.DEFAULT.url
    with pytest.raises(OSError, match=r"the weights of resnet50 are not here.*no network") as caught:
        _ = RegionEncoder("resnet50", "imagenet").model
    assert f"fetch {url} and give its path as weights, or weights='random'" in str(caught.value)


def test_imagenet_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = tmp_path / "served"
    served.mkdir()
    torch.manual_seed(6)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), served / "mine.pth")
    requests: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(served))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            requests.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/mine.pth"
    load = torch.hub.load_state_dict_from_url
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url",
        lambda url, *, progress, check_hash: load(address, progress=False),
    )
    try:
        expected = RegionEncoder(seed=6, size=32)(noise(), BOXES)
        for _ in range(2):
            found = RegionEncoder(weights="imagenet", size=32)(noise(), BOXES)
            torch.testing.assert_close(found, expected)
    finally:
        server.shutdown()
        server.server_close()
    assert requests == ["/mine.pth"]


def test_no_warning_for_readable_images(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CROPS.attach([pair(image_file(tmp_path), *BOXES)], progress=False)
