"""Where the text of a split lies, whatever it is called."""

from __future__ import annotations

from pathlib import Path

#: Split names and the other names, of splits and of files, that mean the same.
SPLITS = {"train": ("train",), "valid": ("valid", "dev", "val"), "test": ("test",)}


def split_name(split: str) -> str:
    """The split's name for any of its names."""
    for name, aliases in SPLITS.items():
        if split in aliases:
            return name
    raise ValueError(f"no split {split!r}; there is train, valid (also: dev, val) and test")


def find_text(folder: str | Path, split: str) -> Path | None:
    """The text file of a split in a folder, or None."""
    paths = (Path(folder) / f"{name}.txt" for name in SPLITS[split_name(split)])
    return next((path for path in paths if path.is_file()), None)


def listing(folder: Path) -> str:
    """What lies in a folder, for a message."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir()) if folder.is_dir() else []
    if not names:
        return "nothing"
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
