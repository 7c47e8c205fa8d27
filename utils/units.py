"""Numbers the way people read them: bytes, counts, durations; what is not finite is "?"."""

import math


def human_bytes(count: float) -> str:
    """`count` bytes in binary units: 1536 -> '1.5 KiB'."""
    if not math.isfinite(count):
        return "?"
    if abs(count) < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if abs(count) < 1023.95 or unit == "TiB":  # 1023.95 would be printed as 1024.0
            break
    return f"{count:.1f} {unit}"


def human_count(count: float) -> str:
    """`count` things in short form: 950 -> '950', 2390000 -> '2.39 M'."""
    if not math.isfinite(count):
        return "?"
    if abs(count) < 999.5:
        return f"{count:.0f}"
    for unit in ("k", "M", "G", "T"):
        count /= 1000
        if abs(count) < 999.5 or unit == "T":
            break
    return f"{count:.3g} {unit}" if abs(count) < 999.5 else f"{count:.0f} {unit}"


def human_seconds(seconds: float) -> str:
    """A duration in its two largest units: 432 -> '7 min 12 s'."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, large, part, small in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {large} {rest} {small}" if rest else f"{whole // size} {large}"
    return f"{whole} s"


def ago(seconds: float) -> str:
    """How long ago, in the largest unit: 250 -> '4 min ago'."""
    if not math.isfinite(seconds):
        return "?"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def counted(count: int, noun: str) -> str:
    """`1 item`, `1,200 items`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
