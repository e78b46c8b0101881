"""Encodes an intent's excluded offsets as text: few as readable runs, many as bits.

A run is its distance from the end of the previous run (the first: from the range's start), with `+n` when n more
offsets follow: from 10 on, "2,1+3" stands for 12, 14, 15, 16, 17. Numbers are hexadecimal.

Many runs are the same numbers as Rice codes (Golomb 1966; Rice, Plaunt 1971), which for scattered offsets are within a
few percent of the optimum: "~", the two parameters and the number of runs, then base64. They never take more than 1.5
bits for each offset from the start to the last one excluded.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

_BITS: Final = "~"
_PARAMETER_MAX: Final = 62
SPAN_MAX: Final = 14_000
"""Any subset of this many consecutive offsets takes less than 3,520 characters: 1.5 bits each, 6 bits a character."""


def encode_excluded(start: int, offsets: Sequence[int], *, is_plain: bool = False) -> str:
    """Encode ascending offsets from `start` on, in the shorter of the two forms; always as runs if `is_plain`."""
    runs = list(_runs(start, offsets))
    read = ",".join(f"{distance:x}+{more:x}" if more else f"{distance:x}" for distance, more in runs)
    return read if is_plain or not runs else min(read, _as_bits(runs), key=len)


def decode_excluded(start: int, text: str) -> Iterator[int]:
    """Decode a text of `encode_excluded`; yields ascending offsets.

    Raises:
        ValueError: the text is not from that function.
    """
    runs = _of_bits(text[1:]) if text.startswith(_BITS) else _of_text(text)
    end = start
    for distance, more in runs:
        first = end + distance
        end = first + more + 1
        yield from range(first, end)


def _runs(start: int, offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield each run of consecutive offsets: its distance from the previous one's end, and how many more follow."""
    if not offsets:
        return
    end, first = start, offsets[0]
    for offset, following in pairwise([*offsets, offsets[-1] + 2]):
        if following != offset + 1:
            yield first - end, offset - first
            end, first = offset + 1, following


def _of_text(text: str) -> Iterator[tuple[int, int]]:
    for run in text.split(",") if text else ():
        distance, _, more = run.partition("+")
        yield int(distance, 16), int(more or "0", 16)


def _as_bits(runs: Sequence[tuple[int, int]]) -> str:
    of_distance = _parameter([distance for distance, _ in runs])
    of_more = _parameter([more for _, more in runs])
    bits = "".join(_rice(distance, of_distance) + _rice(more, of_more) for distance, more in runs)
    whole = bits + "0" * (-len(bits) % 8)
    packed = int(whole, 2).to_bytes(len(whole) // 8, "big")
    return f"{_BITS}{of_distance:x}.{of_more:x}.{len(runs):x}.{base64.b64encode(packed).decode().rstrip('=')}"


def _of_bits(text: str) -> Iterator[tuple[int, int]]:
    *numbers, packed = text.split(".")
    of_distance, of_more, count = (int(number, 16) for number in numbers)
    if max(of_distance, of_more) > _PARAMETER_MAX:
        raise ValueError("a parameter is too large")
    try:
        raw = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("the bits are not base64") from error
    bits, at = f"{int.from_bytes(raw, 'big'):0{8 * len(raw)}b}", 0
    for _ in range(count):
        distance, at = _of_rice(bits, at, of_distance)
        more, at = _of_rice(bits, at, of_more)
        yield distance, more


def _rice(number: int, parameter: int) -> str:
    """Return a number's Rice code: the upper part as ones and a zero, then the lower `parameter` bits."""
    lower = f"{number & ((1 << parameter) - 1):0{parameter}b}" if parameter else ""
    return "1" * (number >> parameter) + "0" + lower


def _of_rice(bits: str, at: int, parameter: int) -> tuple[int, int]:
    zero = bits.index("0", at)
    end = zero + 1 + parameter
    if end > len(bits):
        raise ValueError("the bits end too early")
    return (zero - at) << parameter | int(bits[zero + 1 : end] or "0", 2), end


def _parameter(numbers: Sequence[int]) -> int:
    """Return the parameter with the shortest codes: near the logarithm of the numbers' mean."""
    near = (sum(numbers) // len(numbers)).bit_length()
    return min(
        range(max(0, near - 2), near + 2), key=lambda k: sum(number >> k for number in numbers) + k * len(numbers)
    )
