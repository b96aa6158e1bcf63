"""Class names as people spell them -> the names of a card, or of the labels themselves.

Names compare by letters, digits and signs of every script, in Unicode form NFKC and without case. Spaces, underscores,
hyphens and slashes between two letters (or a letter and a digit) make no difference: "Nodule / Mass" is "nodule-mass".
Every other sign does: "A+" is not "A-". A card lists what else one class is called. "No finding" is known by name,
because its id differs from file to file; other words for it must be given.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

NO_FINDING = "No finding"
_NO_FINDING_KEYS = {"nofinding", "nofindings"}


def name_key(name: str) -> str:
    """Return what is equal for all spellings of one class: "Nodule / Mass" -> "nodulemass", "A +" -> "a+"."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", str(name)).casefold())
    text = "".join("-" if unicodedata.category(sign) == "Pd" or sign == "\u2212" else sign for sign in text)
    text = re.sub(r"[\s_]+", " ", text).strip()
    text = re.sub(r" ?([^\w ]) ?", r"\1", text)
    text = re.sub(r"(?<=[^\W\d])[ /-](?=\w)|(?<=\w)[ /-](?=[^\W\d])", "", text)
    return text


def is_no_finding(name: str) -> bool:
    """Whether a class name means "No finding"."""
    return name_key(name) in _NO_FINDING_KEYS


def read_classes(text: str) -> str | list[str]:
    """Read what a command line says about classes: card, extended or from-csv, names with commas, or a file of names.

    Raises:
        ValueError: none of these.
    """
    if text in ("card", "extended", "from-csv"):
        return text
    path = Path(text)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    found = [line.strip() for line in lines if line.strip()]
    if found and (path.is_file() or len(lines) > 1):
        return found
    raise ValueError(
        f"classes {text!r} is not one of card, extended, from-csv, a file with a class a line, or names with commas"
    )


def read_names(text: str) -> list[str]:
    """Return the names of a command line, which commas separate."""
    return [name.strip() for name in text.split(",") if name.strip()]


def match_to_card(
    found: Sequence[str],
    classes: Sequence[str],
    aliases: Mapping[str, str],
    extra: Sequence[str] = (),
    negative_names: Sequence[str] = (),
) -> dict[str, str | None]:
    """Map each name found to a class of the card, to NO_FINDING, or to None for an extra class that is not requested.

    Raises:
        ValueError: a name is not one of these (lists the known ones), or two classes have one name.
    """
    canonical: dict[str, str] = {}
    for name in classes:
        if canonical.setdefault(name_key(name), name) != name or is_no_finding(name):
            raise ValueError(
                f"the classes {canonical[name_key(name)]!r} and {name!r} are the same name; give each class once"
            )
    known: dict[str, str | None] = {name_key(name): None for name in extra}
    known.update({name_key(alias): canonical.get(name_key(name)) for alias, name in aliases.items()})
    known.update(canonical)
    known.update(dict.fromkeys((*_NO_FINDING_KEYS, *map(name_key, negative_names)), NO_FINDING))
    unknown = [name for name in found if name_key(name) not in known]
    if unknown:
        raise ValueError(
            f"unknown class {', '.join(map(repr, unknown[:5]))}; known are {', '.join(classes)} and {NO_FINDING!r}; "
            "with classes 'from-csv' the table's own names are the classes; --negative-names says which names mean "
            f"{NO_FINDING!r}"
        )
    return {name: known[name_key(name)] for name in found}


def names_of_table(found: Sequence[str], class_ids: Mapping[str, int] | None = None) -> tuple[str, ...]:
    """Return a table's own class names, each spelling variant once: by class id where one is given, else by alphabet.

    Args:
        found: the names in order of first appearance; the first spelling of a name is used.
        class_ids: name -> id; used only where every class has its own id.
    """
    spelled: dict[str, str] = {}
    for name in found:
        if not is_no_finding(name):
            spelled.setdefault(name_key(name), str(name))
    names = sorted(spelled.values(), key=str.casefold)
    ids = {name: class_ids[name] for name in names if name in class_ids} if class_ids else {}
    if len(ids) == len(names) == len(set(ids.values())):
        names.sort(key=lambda name: ids[name])
    return tuple(names)
