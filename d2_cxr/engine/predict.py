"""Findings for files and folders, written side by side: what `tools/predict.py` does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from d2_cxr import artifacts
from d2_cxr.dicom.image_files import FilmRefused, kind_of
from d2_cxr.engine import findings
from d2_cxr.engine.findings import Findings

logger = logging.getLogger(__name__)
_HEADER_BYTES = 133  # tell DICOM, PNG and JPEG apart


def film_files(inputs: Sequence[str | Path]) -> list[Path]:
    """Return the film files among files and folders (searched through), each once, in a fixed order.

    A file that is named is taken whatever it holds, and refused when it is read; files inside a folder are taken when
    their first bytes are a film's.

    Raises:
        FileNotFoundError: an input is not there.
        ValueError: a folder holds no film.
    """
    found: dict[Path, None] = {}
    for entry in map(Path, inputs):
        if entry.is_dir():
            inside = [path for path in sorted(entry.rglob("*")) if path.is_file() and _is_film(path)]
            if not inside:
                raise ValueError(f"folder {entry} holds no DICOM, PNG or JPEG file")
            found |= dict.fromkeys(inside)
        elif entry.is_file():
            found[entry] = None
        else:
            raise FileNotFoundError(f"film {entry} does not exist")
    return list(found)


def predict(
    predictor: Callable[[Path], Findings], inputs: Sequence[str | Path], output: str | Path, overlays: bool = True
) -> tuple[list[Findings], dict[str, str]]:
    """Write findings.json, findings.csv, detector.json, overlays/ and, where films were refused, refused.csv.

    Args:
        predictor: `Predictor`.
        inputs: files and folders.
        output: folder.
        overlays: also a picture a film.

    Returns:
        findings of the films that could be read, and file -> reason of the others.

    Raises:
        FileNotFoundError, ValueError: see `film_files`; or not one film could be read. Nothing is written then.
    """
    films, refused = [], {}
    for path in tqdm(film_files(inputs), desc="predict", unit="film", disable=None):
        try:
            films.append(predictor(path))
        except FilmRefused as error:
            refused[str(path)] = str(error).removeprefix(f"{path}: ")
    if not films:
        path, reason = next(iter(refused.items()))
        raise ValueError(f"no film could be read; {path}: {reason}")
    _write(Path(output), films, refused, predictor, overlays)
    return films, refused


def _write(output: Path, films: list[Findings], refused: dict[str, str], predictor, overlays: bool) -> None:
    if overlays:
        taken: set[str] = set()
        for film in films:
            name = _free_name(film.image_id, taken)
            findings.write_overlay(output / "overlays" / f"{name}.png", film)
    detector = {"card": predictor.card.to_dict(), "thresholds": predictor.thresholds}
    artifacts.write_json(output / "detector.json", detector)
    findings.write_csv(output / "findings.csv", films)
    if refused:
        rows = [{"file": path, "reason": reason} for path, reason in refused.items()]
        artifacts.write_csv(output / "refused.csv", rows, ["file", "reason"])
        for path, reason in refused.items():
            logger.warning("refused %s: %s", path, reason)
    findings.write_json(output / "findings.json", films)


def _is_film(path: Path) -> bool:
    with open(path, "rb") as file:
        return kind_of(file.read(_HEADER_BYTES)) is not None


def _free_name(name: str, taken: set[str]) -> str:
    """Return the name, numbered when two films of different folders share it."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free
