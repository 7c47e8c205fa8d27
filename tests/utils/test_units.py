"""Numbers as people read them, at every edge where the unit changes."""

import math

import pytest

from utils.units import human_bytes, human_count, human_seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (-1536, "-1.5 KiB"),
        (5 * 1024**5, "5120.0 TiB"),
        (math.inf, "?"),
    ],
)
def test_bytes_never_show_a_thousand_of_a_smaller_unit(count: float, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999.4, "999"),
        (999.6, "1 k"),
        (1000, "1 k"),
        (999_600, "1 M"),
        (2_390_000, "2.39 M"),
        (7.3e18, "7300000 T"),
        (math.nan, "?"),
    ],
)
def test_counts_keep_three_digits_and_no_exponents(count: float, text: str) -> None:
    assert human_count(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.7, "1 min"),
        (432, "7 min 12 s"),
        (3600, "1 h"),
        (7260, "2 h 1 min"),
        (90_000, "1 d 1 h"),
        (math.inf, "?"),
    ],
)
def test_durations_use_their_two_largest_units(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text
