"""The DICOM objects of one image, written as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from d2_cxr import artifacts
from d2_cxr.delivery.key_image import key_image
from d2_cxr.delivery.presentation_state import presentation_state
from d2_cxr.delivery.source import Algorithm, DeliveryError, ScoredBox, identified_copy, read_source, to_bytes
from d2_cxr.delivery.structured_report import structured_report
from d2_cxr.dicom.image_files import ImageError

KINDS = ("sr", "gsps", "key_image")


def deliver_image(
    path: str | Path,
    boxes: Sequence[ScoredBox],
    thresholds: Mapping[str, float | None],
    algorithm: Algorithm,
    output: str | Path,
    name: str,
    kinds: Sequence[str] = ("sr",),
    assume_uids: bool = False,
) -> list[Path]:
    """Write the objects of an image as `output/KIND/NAME.dcm`, and return their paths.

    Args:
        path: the DICOM image.
        boxes: the findings that are reported, in its pixels.
        thresholds: class name -> least score that is reported, None where the class is not reported.
        algorithm: who found it.
        output: folder.
        name: of the files, without suffix.
        kinds: of KINDS.
        assume_uids: derive UIDs that the file lacks; then `output/images/NAME.dcm` is the image with them.

    Raises:
        DeliveryError: nothing can be delivered for this file, or a box does not lie within it. Nothing is written.
    """
    source = read_source(path, assume_uids)
    make = {
        "sr": lambda: structured_report(source, boxes, thresholds, algorithm),
        "gsps": lambda: presentation_state(source, boxes, algorithm),
        "key_image": lambda: key_image(source, boxes, algorithm),
    }
    try:
        contents = {kind: to_bytes(make[kind]()) for kind in kinds}
    except ImageError as error:
        raise DeliveryError(f"{path}: {error}") from error
    if source.assumed:
        contents["images"] = identified_copy(source)
    paths = []
    for kind, content in contents.items():
        paths.append(Path(output) / kind / f"{name}.dcm")
        artifacts.write_bytes(paths[-1], content)
    return paths
