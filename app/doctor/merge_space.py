"""Where the room on the disk went."""

from collections.abc import Iterator
from pathlib import Path


def largest(*folders: Path, count: int = 4) -> list[tuple[Path, int]]:
    """The largest things directly under `folders`, with their bytes."""
    sized = [(path, _bytes(path)) for folder in folders for path in _inside(folder)]
    sized.sort(key=lambda item: -item[1])
    return [(path, size) for path, size in sized if size][:count]


def short(path: Path, home: Path) -> Path:
    """`path` as seen from `home`, where it lies below it."""
    return path.relative_to(home) if path.is_relative_to(home) else path


def _inside(folder: Path) -> Iterator[Path]:
    """What a folder holds; nothing of one that is gone or not ours to read."""
    try:
        yield from folder.iterdir()
    except OSError:
        return


def _bytes(path: Path) -> int:
    total, waiting = 0, [path]
    while waiting:
        one = waiting.pop()
        if one.is_dir() and not one.is_symlink():
            waiting += _inside(one)
            continue
        try:
            total += one.lstat().st_size
        except OSError:  # deleted meanwhile
            continue
    return total
