"""Image files with every issue of `mnergraph.features.vision.image_io.ISSUE_CODES`, and without issues."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

#: EXIF tag of the orientation.
ORIENTATION = 0x0112


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    """Return an RGB image of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def save_rotated(image: Image.Image, path: Path, orientation: int) -> Path:
    """Save an image with rotated or flipped pixels and the EXIF orientation that undoes it; return the path."""
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    (image if inverse is None else image.transpose(inverse)).save(path, exif=exif)
    return path


def write_odd_images(folder: Path) -> dict[str, str | None]:
    """Write the image files to a folder and return their issue codes by id, None for those without an issue."""
    folder.mkdir(parents=True, exist_ok=True)
    plain, codes = noise(), {}

    def add(id: str, code: str | None) -> None:
        codes[id] = code

    plain.save(folder / "good.png")
    add("good", None)
    plain.save(folder / "with spaces and 🐦.png")
    add("with spaces and 🐦", None)
    plain.convert("L").save(folder / "grey.png")
    add("grey", None)
    plain.save(folder / "wrong.jpg", "PNG")
    add("wrong", "mislabelled")
    noise(1, 1).save(folder / "dot.png")
    add("dot", "tiny")
    save_rotated(plain, folder / "turned.jpg", 6)
    add("turned", "turned")
    plain.save(folder / "moving.png", save_all=True, append_images=[noise(seed=1)])
    add("moving", "animated")
    rgba = plain.convert("RGBA")
    rgba.putalpha(Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (30, 1))))
    rgba.save(folder / "rgba.png")
    add("rgba", "transparent")
    plain.convert("P").save(folder / "palette.png", transparency=bytes(range(256)))
    add("palette", "transparent")
    plain.convert("P").save(folder / "plain palette.png")
    add("plain palette", "colours")
    plain.convert("CMYK").save(folder / "cmyk.jpg")
    add("cmyk", "colours")
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 54).save(folder / "sixteen.png")
    add("sixteen", "colours")
    Image.new("RGB", (12_000, 60), "red").save(folder / "wide.png")
    add("wide", "large")

    whole = (folder / "good.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_bytes(b"hello")
    (folder / "program.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"\n <!DOCTYPE html><p>404")
    # the header declares 30,000 x 30,000 pixels; the pixels themselves are not needed
    bomb = bytearray(whole)
    bomb[16:24] = (30_000).to_bytes(4, "big") * 2
    bomb[29:33] = _crc(bytes(bomb[12:29]))
    (folder / "bomb.png").write_bytes(bytes(bomb))
    for id, code in (
        ("truncated", "corrupt"),
        ("text", "corrupt"),
        ("program", "corrupt"),
        ("empty", "empty"),
        ("page", "html"),
        ("bomb", "bomb"),
        ("gone", "missing"),
        ("../out", "refused"),
    ):
        add(id, code)
    (folder.parent / "out.png").write_bytes(whole)
    return codes


def _crc(chunk: bytes) -> bytes:
    import zlib

    return zlib.crc32(chunk).to_bytes(4, "big")
