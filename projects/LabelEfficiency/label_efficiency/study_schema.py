"""What each key of a study file may hold, checked value by value before anything runs.

A shape says what a value must be. `check_shape` walks a file's values along the shapes and raises one line with the
key, the value and what is accepted there.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_LONGEST = 60  # characters of a value that a message quotes


@dataclass(frozen=True)
class Value:
    """A plain value: a test, and the words that complete "KEY is VALUE; give ..."."""

    accepts: Callable[[object], bool]
    words: str


@dataclass(frozen=True)
class ListOf:
    """A list of at least `least` different items of one shape."""

    item: Shape
    words: str
    least: int = 1


@dataclass(frozen=True)
class Named:
    """A mapping with names of the user's choice, all values of one shape."""

    item: Shape
    words: str
    name: str = r"[A-Za-z0-9][A-Za-z0-9_+.-]*"


@dataclass(frozen=True)
class Keys:
    """A mapping with fixed keys; those in `required` must be there."""

    keys: Mapping[str, Shape]
    required: tuple[str, ...] = ()


Shape = Value | ListOf | Named | Keys


def check_shape(value: object, shape: Shape, where: str) -> None:
    """Raise where a value is not of its shape.

    Args:
        value: from YAML.
        where: file and keys down to the value, for the message.

    Raises:
        ValueError: one line that names the key, the value and what is accepted.
    """
    _CHECKS[type(shape)](value, shape, where)


def _check_value(value: object, shape: Value, where: str) -> None:
    if not shape.accepts(value):
        raise ValueError(f"{where} is {quoted(value)}; give {shape.words}")


def _check_list(value: object, shape: ListOf, where: str) -> None:
    if not isinstance(value, list) or len(value) < shape.least:
        raise ValueError(f"{where} is {quoted(value)}; give {shape.words}")
    for index, item in enumerate(value):
        check_shape(item, shape.item, f"{where}[{index}]")
        if item in value[:index]:
            raise ValueError(f"{where} holds {quoted(item)} twice; give {shape.words}")


def _check_named(value: object, shape: Named, where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {quoted(value)}; give {shape.words}")
    for name, item in value.items():
        if not isinstance(name, str) or not re.fullmatch(shape.name, name):
            raise ValueError(f"{where} has the key {quoted(name)}; give {shape.words}")
        check_shape(item, shape.item, f"{where}: {name}")


def _check_keys(value: object, shape: Keys, where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {quoted(value)}; give the keys {', '.join(shape.keys)}")
    for key in value:
        if key not in shape.keys:
            raise ValueError(f"{where}: unknown key {quoted(key)}; {suggestion(key, shape.keys)}")
    for key in shape.required:
        if key not in value:
            raise ValueError(f"{where}: the key {key} is missing")
    for key, item in value.items():
        check_shape(item, shape.keys[key], f"{where}: {key}")


_CHECKS = {Value: _check_value, ListOf: _check_list, Named: _check_named, Keys: _check_keys}


def suggestion(word: object, known: Sequence[str]) -> str:
    """Return "did you mean AP50?" where a known word is close, and otherwise all known words."""
    known = list(known)
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def quoted(value: object) -> str:
    """Return a value as one short line."""
    text = "nothing" if value is None else value if isinstance(value, str) and value.strip() else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def text(words: str) -> Value:
    """A line of text that is not empty."""
    return Value(lambda value: isinstance(value, str) and bool(value.strip()) and value.isprintable(), words)


def pattern(expression: str, words: str) -> Value:
    """Text that matches a regular expression."""
    return Value(lambda value: isinstance(value, str) and re.fullmatch(expression, value) is not None, words)


def choice(*values: str) -> Value:
    """One of these texts."""
    return Value(lambda value: isinstance(value, str) and value in values, f"one of {', '.join(values)}")


def whole(least: int, most: int, example: int) -> Value:
    """A whole number in a range, both ends included."""
    return Value(
        lambda value: type(value) is int and least <= value <= most,
        f"a whole number from {least} to {most}, e.g. {example}",
    )


def number(least: float, most: float, example: float) -> Value:
    """A finite number in a range, both ends included."""
    return Value(
        lambda value: type(value) in (int, float) and math.isfinite(value) and least <= value <= most,
        f"a number from {least:g} to {most:g}, e.g. {example:g}",
    )


FLAG = Value(lambda value: isinstance(value, bool), "true or false")


def is_option(value: object) -> bool:
    """Whether a value can be an option's: text, a finite number, true or false, or a list of such values."""
    if isinstance(value, list):
        return all(is_option(item) for item in value)
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


OPTION = Value(is_option, "text, a number, true, false or a list of these")
