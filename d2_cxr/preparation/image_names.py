"""Which name each file and each row of labels has, so that the two meet.

In most archives each image has a unique file name. In others (CheXpert's patient/study/view1_frontal.jpg, a CD's
IM000001) only the path distinguishes images; there names are paths below the input folder, and an id of the labels is
matched to the file with which it shares the longest tail.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from d2_cxr.datasets.manifest import Source
from d2_cxr.dicom.image_files import ImageError, kind_of
from d2_cxr.image_name import SUFFIXES, image_name, path_name

_MANY = 0.1  # part of the files that share their name with one in another folder: from here on names are paths

# What names of people, dates and record numbers look like: a warning, so better one too many than one too few.
_PERSONAL = {
    "names of people": r"[A-Z][a-z]{2,}[ _^,-]+[A-Z][a-z]{2,}|[A-Z]{3,}\^[A-Z]{2,}|[A-Z]{4,}[_, ][A-Z]{3,}",
    "dates": r"(?<!\d)(?:(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])[-_.](?:0[1-9]|1[0-2])[-_.](?:19|20)\d\d)(?!\d)",
    "record numbers": r"(?i)(?<![a-z])(?:mrn|pat(?:ient)?[-_ ]?(?:id|nr|no)|nhs|ssn)[-_ ]?\d{4,}",
}


@dataclass(frozen=True)
class ImageNames:
    """The names of a folder's images.

    Attributes:
        are_paths: names have their folders.
    """

    are_paths: bool
    _by_last_part: dict[str, tuple[str, ...]]
    _common_folders: int  # leading folders in which all files lie: labels may write others in their place

    @classmethod
    def of(cls, sources: Sequence[Source]) -> ImageNames:
        """Decide whether names are paths.

        Args:
            sources: the image files.
        """
        folders: dict[str, set[str]] = defaultdict(set)
        for source in sources:
            folders[image_name(source.file)].add(source.file.rpartition("/")[0])
        shared = sum(len(folders[image_name(source.file)]) > 1 for source in sources)
        are_paths = bool(sources) and shared > _MANY * len(sources)
        by_last: dict[str, list[str]] = defaultdict(list)
        for source in sources if are_paths else ():
            by_last[image_name(source.file)].append(path_name(source.file))
        common = os.path.commonpath([os.path.dirname(source.file) for source in sources]) if sources else ""
        return cls(
            are_paths,
            {last: tuple(dict.fromkeys(paths)) for last, paths in by_last.items()},
            len(common.split("/")) if common else 0,
        )

    def name_files(self, sources: Iterable[Source]) -> list[Source]:
        """Return the sources with their names."""
        if not self.are_paths:
            return list(sources)
        return [replace(source, image_name=path_name(source.file)) for source in sources]

    def of_text(self, text: str) -> str:
        """Return the name of the image that labels write as `text`; of several files that fit, the longest common tail.

        A file fits where one path ends with the other, folders in which all files lie left aside: the image of another
        patient, whose path ends alike, does not.

        Raises:
            ValueError: several files fit equally well.
        """
        if not self.are_paths:
            return image_name(text)
        name = path_name(text)
        parts = name.split("/")
        tails = {path: _common_tail(parts, path.split("/")) for path in self._by_last_part.get(parts[-1], ())}
        needed = {path: min(len(parts), path.count("/") + 1 - self._common_folders) for path in tails}
        fitting = {path: tail for path, tail in tails.items() if tail >= needed[path]}
        best = [path for path, tail in fitting.items() if tail == max(fitting.values())]
        if len(best) > 1:
            raise ValueError(
                f"the labels' image {text} fits {len(best)} files, such as {best[0]} and {best[1]}; write ids with "
                f"their folders, for example {best[0]}"
            )
        return best[0] if best else name


def is_image(source: Source) -> bool:
    """Whether a file is one to prepare or to refuse: an image by its suffix, or by its first bytes."""
    if source.own_name.casefold().endswith(SUFFIXES):
        return True
    try:
        return kind_of(source.read(133)) is not None
    except ImageError:
        return True  # refused with the reason when it is read whole


def personal_looking(names: Iterable[str]) -> dict[str, int]:
    """Count the names that look as if they held names of people, dates or record numbers, by kind; no name is shown."""
    counts: Counter[str] = Counter()
    for name in names:
        counts.update(kind for kind, pattern in _PERSONAL.items() if re.search(pattern, name))
    return dict(counts)


def _common_tail(parts: Sequence[str], others: Sequence[str]) -> int:
    """Return how many last parts two paths have in common."""
    same = (part == other for part, other in zip(reversed(parts), reversed(others), strict=False))
    return sum(takewhile(bool, same))
