"""Findings as a grayscale softcopy presentation state: boxes and labels over the image, for viewers without SR.

Coordinates are the source's pixels, (0, 0) the outer corner of the first one (PS3.3 C.10.5). The image is shown with
its own window and polarity; no pixel is changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from highdicom import pr
from pydicom.dataset import Dataset

from d2_cxr.delivery.source import Algorithm, DeliveryError, ScoredBox, Source, with_identity, without_identity
from d2_cxr.delivery.structured_report import RESEARCH_ONLY, new_object
from d2_cxr.dicom import header

SERIES_NUMBER = 9002
_LAYER = pr.GraphicLayer("FINDINGS", 1, "Findings of a detector")


def presentation_state(source: Source, boxes: Sequence[ScoredBox], algorithm: Algorithm) -> Dataset:
    """Return the presentation state of an image; without boxes its one label says so.

    Raises:
        DeliveryError: a box does not lie within the image, or the image has several samples a pixel.
    """
    source.check(boxes)
    if (header.number(source.dataset, "SamplesPerPixel") or 1) != 1:
        raise DeliveryError(f"{source.path}: a grayscale presentation state needs one sample a pixel; use a key image")
    image = _image(source)
    annotations = [_annotation(image, source, box) for box in boxes]
    annotations.append(_note(image, source, len(boxes)))
    polarity = hd.PresentationLUTShapeValues.INVERSE if _is_inverted(source) else hd.PresentationLUTShapeValues.IDENTITY
    state = pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[image],
        content_label="FINDINGS",
        content_description=f"{algorithm.name}. {RESEARCH_ONLY}"[:64],
        graphic_annotations=annotations,
        graphic_layers=[_LAYER],
        presentation_lut_transformation=hd.PresentationLUTTransformation(polarity),
        **new_object(source, algorithm, SERIES_NUMBER, f"{algorithm.name} findings (presentation)"),
    )
    state.Laterality = None  # not known; type 2
    _show_as_the_image_does(state, source)
    return with_identity(state, source)


def _image(source: Source) -> Dataset:
    """Return what highdicom needs of the image: its identity and size, without display attributes."""
    dataset = without_identity(source).dataset
    keep = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Rows", "Columns")
    image = Dataset()
    for element in dataset:
        if element.keyword in keep or element.keyword.startswith(("Patient", "Study", "Accession", "Referring")):
            image.add(element)
    image.SamplesPerPixel = 1
    return image


def _annotation(image: Dataset, source: Source, box: ScoredBox) -> pr.GraphicAnnotation:
    x0, y0, _, _ = (float(value) for value in box.box_xyxy)
    outline = pr.GraphicObject(pr.GraphicTypeValues.POLYLINE, np.array(box.polyline()), pr.AnnotationUnitsValues.PIXEL)
    label = _label(source, f"{box.class_name} {box.score:.2f}", x0, y0 - 0.03 * source.height)
    return pr.GraphicAnnotation([image], _LAYER, graphic_objects=[outline], text_objects=[label])


def _note(image: Dataset, source: Source, count: int) -> pr.GraphicAnnotation:
    text = RESEARCH_ONLY if count else f"No finding at or above its threshold. {RESEARCH_ONLY}"
    return pr.GraphicAnnotation([image], _LAYER, text_objects=[_label(source, text, 0, 0.96 * source.height)])


def _label(source: Source, text: str, x: float, y: float) -> pr.TextObject:
    """Return a text whose box begins at (x, y), moved into the image; viewers choose the size of letters."""
    height, width = 0.03 * source.height, min(0.4 * source.width, source.width)
    x = min(max(x, 0.0), source.width - width)
    y = min(max(y, 0.0), source.height - height)
    return pr.TextObject(
        text,
        pr.AnnotationUnitsValues.PIXEL,
        bounding_box=(x, y, x + width, y + height),
        text_justification=pr.TextJustificationValues.LEFT,
    )


def _show_as_the_image_does(state: Dataset, source: Source) -> None:
    """Copy modality and VOI transformations, PS3.3 C.11; a window that the standard forbids is left out."""
    dataset = source.dataset
    if dataset.get("ModalityLUTSequence"):
        keep = ("LUTDescriptor", "ModalityLUTType", "LUTData")
        state.ModalityLUTSequence = [_only(dataset.ModalityLUTSequence[0], keep)]
    elif header.number(dataset, "RescaleSlope") is not None:
        state.RescaleSlope = dataset.RescaleSlope
        state.RescaleIntercept = dataset.get("RescaleIntercept") or 0
        rescale_type = header.code(dataset, "RescaleType")
        state.RescaleType = rescale_type if rescale_type not in ("", header.UNKNOWN_CODE) else "US"  # unspecified
    if dataset.get("VOILUTSequence"):
        item = Dataset()
        item.VOILUTSequence = [_only(dataset.VOILUTSequence[0], ("LUTDescriptor", "LUTData"))]
        state.SoftcopyVOILUTSequence = [item]
    elif window := _window(dataset):
        state.SoftcopyVOILUTSequence = [window]


def _window(dataset: Dataset) -> Dataset | None:
    """Return the first of several windows: the one that is shown, and that the detector saw."""
    center, width = header.number(dataset, "WindowCenter"), header.number(dataset, "WindowWidth")
    function = header.code(dataset, "VOILUTFunction")
    if center is None or width is None or width < (1 if function in ("", "LINEAR") else 1e-9):
        return None
    item = Dataset()
    item.WindowCenter, item.WindowWidth = f"{center:.10g}", f"{width:.10g}"
    if function:
        item.VOILUTFunction = function
    return item


def _only(item: Dataset, keywords: Sequence[str]) -> Dataset:
    """Return an item with these elements alone: explanations are free text, which may hold anything."""
    copy = Dataset()
    copy.update({element.tag: element for element in item if element.keyword in keywords})
    return copy


def _is_inverted(source: Source) -> bool:
    """A presentation state replaces the image's own polarity, PS3.4 N.2.1.3: MONOCHROME1 is shown by INVERSE."""
    shape = header.code(source.dataset, "PresentationLUTShape")
    return header.code(source.dataset, "PhotometricInterpretation") == "MONOCHROME1" or shape == "INVERSE"
