"""Pictures as they are in the wild: every kind in `mnergraph.features.vision.image_io.ISSUE_CODES`, and good ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

#: EXIF's tag of the orientation.
ORIENTATION = 0x0112


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def lying(picture: Image.Image, path: Path, orientation: int) -> Path:
    """The picture as a camera held that way writes it: pixels turned, EXIF telling how to turn them back."""
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
    (picture if inverse is None else picture.transpose(inverse)).save(path, exif=exif)
    return path


def wild(folder: Path) -> dict[str, str | None]:
    """Writes a folder of pictures; their kind by id, None for a picture like any other."""
    folder.mkdir(parents=True, exist_ok=True)
    plain, kinds = noise(), {}

    def keep(id: str, kind: str | None) -> None:
        kinds[id] = kind

    plain.save(folder / "good.png")
    keep("good", None)
    plain.save(folder / "with spaces and 🐦.png")
    keep("with spaces and 🐦", None)
    plain.convert("L").save(folder / "grey.png")
    keep("grey", None)
    plain.save(folder / "wrong.jpg", "PNG")
    keep("wrong", "mislabelled")
    noise(1, 1).save(folder / "dot.png")
    keep("dot", "tiny")
    lying(plain, folder / "turned.jpg", 6)
    keep("turned", "turned")
    plain.save(folder / "moving.png", save_all=True, append_images=[noise(seed=1)])
    keep("moving", "animated")
    rgba = plain.convert("RGBA")
    rgba.putalpha(Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (30, 1))))
    rgba.save(folder / "rgba.png")
    keep("rgba", "transparent")
    plain.convert("P").save(folder / "palette.png", transparency=bytes(range(256)))
    keep("palette", "transparent")
    plain.convert("P").save(folder / "plain palette.png")
    keep("plain palette", "colours")
    plain.convert("CMYK").save(folder / "cmyk.jpg")
    keep("cmyk", "colours")
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 54).save(folder / "sixteen.png")
    keep("sixteen", "colours")
    Image.new("RGB", (12_000, 60), "red").save(folder / "wide.png")
    keep("wide", "large")

    whole = (folder / "good.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_bytes(b"hello")
    (folder / "program.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"\n <!DOCTYPE html><p>404")
    # 30,000 x 30,000 pixels of one colour; the header tells, the pixels need not be there
    bomb = bytearray(whole)
    bomb[16:24] = (30_000).to_bytes(4, "big") * 2
    bomb[29:33] = _crc(bytes(bomb[12:29]))
    (folder / "bomb.png").write_bytes(bytes(bomb))
    for id, kind in (
        ("truncated", "corrupt"),
        ("text", "corrupt"),
        ("program", "corrupt"),
        ("empty", "empty"),
        ("page", "html"),
        ("bomb", "bomb"),
        ("gone", "missing"),
        ("../out", "refused"),
    ):
        keep(id, kind)
    (folder.parent / "out.png").write_bytes(whole)
    return kinds


def _crc(chunk: bytes) -> bytes:
    import zlib

    return zlib.crc32(chunk).to_bytes(4, "big")
