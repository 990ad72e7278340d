import hashlib
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from mnergraph.cli.extract import wanted_images
from mnergraph.cli.inputs import Inputs
from mnergraph.data import PostFolder
from mnergraph.data.formats.jsonl import read_posts
from mnergraph.data.image_files import check_image, image_files, image_path_of, placeholders


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"s")
    for name in ("1.jpg", "2.png", "3.jpeg", "notes.txt"):
        (folder / name).write_bytes(name.encode())
    return folder


def test_every_suffix_is_found(images: Path) -> None:
    assert [path and path.name for path in (image_path_of(images, id) for id in "1234")] == [
        "1.jpg",
        "2.png",
        "3.jpeg",
        None,
    ]
    assert [path.name for path in image_files(images)] == ["1.jpg", "2.png", "3.jpeg"]


@pytest.mark.parametrize(
    "id", ["../secret", "/etc/x", "a/../../secret", "..\\secret", "a\0b", "", ".", "a//b", "./1", "~/1", "C:/1"]
)
def test_ids_that_lead_out_are_refused(images: Path, id: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"post id {id!r} leads out of")):
        image_path_of(images, id)


def test_links_that_lead_out_are_refused(images: Path) -> None:
    (images / "9.jpg").symlink_to(images.parent / "secret.jpg")
    with pytest.raises(ValueError, match="image of post '9' is a link out of"):
        image_path_of(images, "9")
    (images / "8.jpg").symlink_to(images / "1.jpg")
    assert image_path_of(images, "8") == images / "8.jpg"


def test_placeholders_by_copies_and_by_checksum(images: Path) -> None:
    for number in range(20, 23):
        (images / f"{number}.jpg").write_bytes(b"same")
    assert placeholders(images, copies=3) == {"20", "21", "22"}
    assert placeholders(images, copies=4) == set()
    assert placeholders(images, copies=4, sha256={hashlib.sha256(b"1.jpg").hexdigest()}) == {"1"}


def test_faults_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(name: str, size: tuple[int, int], format: str) -> Path:
        Image.effect_noise(size, 90).convert("RGB").save(tmp_path / name, format)
        return tmp_path / name

    def kind(path: Path) -> str | None:
        fault = check_image(path, path.stem)
        return fault and fault.code

    good = made("good.jpg", (64, 64), "JPEG")
    assert kind(good) is None
    assert kind(made("good.png", (64, 64), "PNG")) is None
    assert check_image(made("3.jpg", (64, 64), "PNG"), "3") == ("3", "mislabelled", "3.jpg is PNG inside")
    assert kind(made("dot.jpg", (1, 9), "JPEG")) == "tiny"
    (tmp_path / "torn.jpg").write_bytes(good.read_bytes()[:900])
    (tmp_path / "text.jpg").write_bytes(b"hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_bytes(b"\n <!DOCTYPE html><p>404")
    names = ("torn", "text", "empty", "page")
    assert [kind(tmp_path / f"{name}.jpg") for name in names] == ["corrupt", "corrupt", "empty", "html"]
    for limit in (3000, 1000):  # Pillow warns above the limit and raises above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert kind(good) == "bomb"


@pytest.mark.parametrize("suffix", [".JPG", ".PNG", ".webp", ".WebP", ".Jpeg", ".tif", ".bmp", ".gif"])
def test_suffixes_in_any_case(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("1", "sub/2.a"):
        (tmp_path / f"{name}{suffix}").write_bytes(b"")
        assert image_path_of(tmp_path, name) == tmp_path / f"{name}{suffix}"
    assert image_path_of(tmp_path, "3") is None
    assert image_path_of(tmp_path, "none/3") is None
    (tmp_path / "3.PNG").write_bytes(b"")  # a folder that has changed is read again
    assert image_path_of(tmp_path, "3") == tmp_path / "3.PNG"


def test_two_files_of_one_id_are_named(tmp_path: Path) -> None:
    for name in ("1.PNG", "1.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"post '1' has 2 images, 1\.jpg, 1\.PNG; the first is taken"):
        assert image_path_of(tmp_path, "1") == tmp_path / "1.jpg"


def test_one_rule_for_ids_that_lead_out(tmp_path: Path) -> None:
    """In a data set, in a file to predict on, and where features are extracted: a post without image, and a warning."""
    (tmp_path / "1.jpg").write_bytes(b"")
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("IMGID:1\na\tO\n\nIMGID:../2\nb\tO\n\n", encoding="utf-8")
    message = "1 posts have no image: post id '../2' leads out of"
    with pytest.warns(UserWarning, match=message):
        pairs = PostFolder(tmp_path, "test", images=tmp_path).pairs
    assert [pair.image_path for pair in pairs] == [tmp_path / "1.jpg", None]
    with pytest.warns(UserWarning, match=message):
        pairs = read_posts(tmp_path / "test.txt", images=tmp_path)
    assert [pair.image_path for pair in pairs] == [tmp_path / "1.jpg", None]
    with pytest.warns(UserWarning, match=message):
        assert [task.id for task in wanted_images(tmp_path, tmp_path, None)] == ["1"]


#: Paths of images in a file of posts that lead out of its folder, in any system.
LEADING_OUT = (
    "../secret.jpg",
    "a/../../secret.jpg",
    "a/../1.jpg",
    "..",
    "/etc/passwd",
    "~/secret.jpg",
    "~root/secret.jpg",
    "..\\secret.jpg",
    "a\\1.jpg",
    "\\\\host\\share\\1.jpg",
    "C:/secret.jpg",
    "c:",
    "C:\\secret.jpg",
    "1.jpg\0",
    "",
    "link.jpg",
    "elsewhere/secret.jpg",
    "loop.jpg",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of posts with images, and with links out of it and to themselves."""
    folder = tmp_path / "posts"
    (folder / "a").mkdir(parents=True)
    for path in (tmp_path / "secret.jpg", folder / "1.jpg", folder / "a" / "2.jpg"):
        Image.new("RGB", (4, 4)).save(path)
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "elsewhere").symlink_to(tmp_path)
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "inner.jpg").symlink_to(folder / "a" / "2.jpg")
    return folder


def posts_with(folder: Path, *images: str) -> Path:
    lines = [json.dumps({"text": "hi", "id": str(number), "image": name}) for number, name in enumerate(images)]
    (folder / "posts.jsonl").write_text("\n".join(lines))
    return folder / "posts.jsonl"


@pytest.mark.parametrize("image", LEADING_OUT)
def test_an_image_that_leads_out_of_the_folder_of_posts(image: str, folder: Path) -> None:
    path = posts_with(folder, "1.jpg", image)
    with pytest.warns(
        UserWarning, match=r"^1 posts have no image: .*posts\.jsonl:2: image .* (leads|is a link) out of"
    ):
        first, second = read_posts(path)
    assert (first.image_path, second.image_path) == (folder / "1.jpg", None)


@pytest.mark.parametrize("image", ["1.jpg", "./1.jpg", "a/2.jpg", "a//2.jpg", "inner.jpg", "elsewhere/posts/1.jpg"])
def test_an_image_within_the_folder_of_posts(image: str, folder: Path) -> None:
    (pair,) = read_posts(posts_with(folder, image))
    assert pair.image_path == folder / image


def test_a_folder_of_posts_behind_a_link(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts_with(folder, "1.jpg")
    (folder.parent / "shortcut").symlink_to(folder)
    (pair,) = read_posts(folder.parent / "shortcut" / "posts.jsonl")
    assert pair.image_path == folder.parent / "shortcut" / "1.jpg"
    monkeypatch.chdir(folder)
    (pair,) = read_posts(Path("posts.jsonl"))
    assert pair.image_path == Path("1.jpg")


@pytest.mark.parametrize("image", ["../secret.jpg", "link.jpg", "elsewhere/secret.jpg", "ABSOLUTE"])
def test_paths_that_are_allowed(image: str, folder: Path) -> None:
    path = posts_with(folder, image.replace("ABSOLUTE", str(folder.parent / "secret.jpg")))
    (pair,) = read_posts(path, allow_paths=True)
    assert pair.image_path is not None
    assert pair.image_path.resolve() == folder.parent / "secret.jpg"
    with pytest.raises(ValueError, match=r"posts\.jsonl:1: there is no image "):
        read_posts(posts_with(folder, "../gone.jpg"), allow_paths=True)
    with pytest.raises(ValueError, match=r"posts\.jsonl:1: there is no image .*File name too long") as caught:
        read_posts(posts_with(folder, "x" * 10_000), allow_paths=True)
    assert len(str(caught.value)) < 1000


def test_many_images_that_lead_out_are_one_line(folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"^300 posts have no image: ") as caught:
        pairs = read_posts(posts_with(folder, *[f"/{'x' * 1000}/{number}" for number in range(300)]))
    assert [pair.image_path for pair in pairs] == [None] * 300
    assert len(caught) == 1
    assert len(str(caught[0].message)) < 3000


def test_allow_paths_on_the_command_line(folder: Path) -> None:
    path = posts_with(folder, "../secret.jpg")
    with pytest.warns(UserWarning, match="1 posts have no image"):
        assert Inputs(posts=path).stream().load()[0].image_path is None
    assert Inputs(posts=path, allow_paths=True).stream().load()[0].image_path == folder / "../secret.jpg"
    (folder / "posts.txt").write_text("IMGID:1\nhi\n")
    with pytest.raises(ValueError, match=r"allow_paths goes with \.jsonl; images of .* are found by id"):
        Inputs(posts=folder / "posts.txt", allow_paths=True).stream().load()
    with pytest.raises(ValueError, match="allow_paths can't go with text"):
        Inputs(text="hi", allow_paths=True).stream().load()
    with pytest.raises(ValueError, match="names its own in each line"):
        Inputs(posts=path, images=folder, allow_paths=True).stream().load()
