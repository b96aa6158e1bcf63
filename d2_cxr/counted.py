"""Counts in messages: "1 image is missing", "2 images are missing"."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "", of: int | None = None) -> str:
    """Return a number and what it counts.

    `counted(1, "image is", "images are")` is "1 image is"; `counted(1200, "box")` is "1,200 boxes";
    `counted(1, "image", of=3)` is "1 of 3 images".

    Args:
        number: how many; 0 or more.
        one: the words after 1.
        many: the words after every other number; default: `one` with -s, or -es after s and x.
        of: how many there are in all.
    """
    many = many or one + ("es" if one.endswith(("s", "x")) else "s")
    words = one if (number if of is None else of) == 1 else many
    return f"{number:,} {words}" if of is None else f"{number:,} of {of:,} {words}"
