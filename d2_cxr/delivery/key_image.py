"""Findings as a key image: a secondary capture with boxes, labels and a warning burned into its pixels.

For archives and viewers that show nothing else. It cannot be switched off or measured on: a report comes first.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import highdicom as hd
import numpy as np
from highdicom.sc import SCImage
from pydicom.dataset import Dataset

from d2_cxr.delivery.picture import draw_on_image
from d2_cxr.delivery.source import Algorithm, ScoredBox, Source, with_identity, without_identity
from d2_cxr.delivery.structured_report import new_object
from d2_cxr.drawing import class_color

SERIES_NUMBER = 9003
WARNING = "NOT FOR DIAGNOSIS - research only"
_STRIP = 28  # pixels


def key_image(source: Source, boxes: Sequence[ScoredBox], algorithm: Algorithm) -> Dataset:
    """Return the secondary capture of an image, RGB, no side above 1024 pixels but for the strip below.

    Raises:
        DeliveryError: a box does not lie within the image.
        ImageError: its pixels cannot be shown.
    """
    source.check(boxes)
    capture = SCImage.from_ref_dataset(
        without_identity(source).dataset,
        _picture(source, boxes, f"{WARNING} - {algorithm.name} {algorithm.version}"),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "F"),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **new_object(source, algorithm, SERIES_NUMBER, f"{algorithm.name} findings (key image)"),
    )
    for keyword in ("PatientOrientation", "Laterality"):
        setattr(capture, keyword, None)  # not known; type 2
    capture.ConversionType = "WSD"  # made on a workstation, PS3.3 C.8.6.1
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.DerivationDescription = f"Boxes and labels burned in by {algorithm.name}; not for diagnosis"
    capture.SourceImageSequence = [_reference(source)]
    return with_identity(capture, source)


def _picture(source: Source, boxes: Sequence[ScoredBox], warning: str) -> np.ndarray:
    """Return the image with its boxes and, below, a strip with the warning: (h, w, 3) uint8."""
    names = sorted({box.class_name for box in boxes})
    picture = draw_on_image(
        source.path,
        [box.box_xyxy for box in boxes],
        labels=[f"{box.class_name} {box.score:.2f}" for box in boxes],
        colors=[class_color(names.index(box.class_name)) for box in boxes],
    )
    strip = np.zeros((_STRIP, picture.shape[1], 3), np.uint8)
    scale = min(0.5, picture.shape[1] / (20 * len(warning)))  # a letter of scale 1 is about 20 pixels wide
    cv2.putText(strip, warning, (6, 19), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([picture, strip])


def _reference(source: Source) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.dataset.SOPClassUID
    item.ReferencedSOPInstanceUID = source.dataset.SOPInstanceUID
    return item
