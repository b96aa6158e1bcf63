"""Findings as a DICOM structured report: Comprehensive 3D SR, TID 1500, one group of TID 1410 a finding.

The content is what viewers were seen to need: the region and, nested in the score, the same region once more, because
OHIF's adapter takes the first measurement of a group and looks for its coordinates inside; a purpose of the region for
3D Slicer; a tracking identifier and UID for OHIF (docs/reading_room.md has every field).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import highdicom as hd
import numpy as np
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from d2_cxr.delivery import codes as own
from d2_cxr.delivery.source import Algorithm, ScoredBox, Source, with_identity, without_identity
from d2_cxr.dicom import header

RESEARCH_ONLY = "Research only, not for diagnosis."
SERIES_NUMBER = 9001
_PROCEDURE = codes.cid100.ImagingProcedure


def structured_report(
    source: Source, boxes: Sequence[ScoredBox], thresholds: Mapping[str, float | None], algorithm: Algorithm
) -> Dataset:
    """Return the report of an image; one without boxes says that nothing reached its threshold.

    Args:
        source: the image.
        boxes: the findings that are reported, in the source's pixels.
        thresholds: class name -> least score that is reported, None where the class is not reported.
        algorithm: who found it.

    Raises:
        DeliveryError: a box does not lie within the image.
    """
    source.check(boxes)
    groups = [_finding(source, box, number, thresholds, algorithm) for number, box in enumerate(boxes, 1)]
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(algorithm)),
        procedure_reported=_PROCEDURE,
        imaging_measurements=groups or [_nothing(source, thresholds, algorithm)],
    )
    report[0].ContentSequence.append(_text(_note(source)))
    document = sr.Comprehensive3DSR(
        evidence=[without_identity(source).dataset],
        content=report,
        is_complete=True,
        is_verified=False,
        coding_schemes=[CodingSchemeIdentificationItem(own.PRIVATE, name="d2_cxr classes and results")],
        **new_object(source, algorithm, SERIES_NUMBER, f"{algorithm.name} findings"),
    )
    return with_identity(document, source)


def new_object(source: Source, algorithm: Algorithm, series_number: int, description: str) -> dict:
    """Return the attributes of series, instance and equipment that every object made here has."""
    return {
        "series_instance_uid": hd.UID(),
        "series_number": series_number,
        "series_description": description[:64],
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": algorithm.name,
        "manufacturer_model_name": algorithm.name,
        "software_versions": algorithm.version,
        "device_serial_number": algorithm.weights_sha256,
        "specific_character_set": "ISO_IR 192",  # class names may be of any language
    }


def _finding(
    source: Source, box: ScoredBox, number: int, thresholds: Mapping[str, float | None], algorithm: Algorithm
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    points = np.array(box.polyline())
    image = sr.SourceImageForRegion(source.dataset.SOPClassUID, source.dataset.SOPInstanceUID)
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(hd.UID(), f"{box.class_name} {number}"),
        referenced_region=sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, points, image),
        finding_type=own.finding_code(box.class_name),
        geometric_purpose=codes.cid219.BoundedBy,
        algorithm_id=_algorithm(algorithm, {box.class_name: thresholds[box.class_name]}),
        measurements=[sr.Measurement(own.SCORE, round(float(box.score), 6), own.ZERO_TO_ONE), *_sides(source, box)],
    )
    score = next(item for item in group[0].ContentSequence if item.ValueType == "NUM")
    # highdicom does not take coordinates inside a measurement of a region; the standard does, TID 300 row 13
    score.ContentSequence = sr.ContentSequence([_coordinates(source, points)])
    group[0].ContentSequence.append(_text(f"{box.class_name} {box.score:.2f}, research only"))
    return group


def _coordinates(source: Source, points: np.ndarray) -> sr.CoordinatesForMeasurement:
    image = sr.SourceImageForRegion(source.dataset.SOPClassUID, source.dataset.SOPInstanceUID)
    return sr.CoordinatesForMeasurement(sr.GraphicTypeValues.POLYLINE, points, image)


def _sides(source: Source, box: ScoredBox) -> list[sr.Measurement]:
    """Return width and height in mm, where the file has a spacing."""
    if source.spacing_mm is None:
        return []
    method = _method(source)
    x0, y0, x1, y1 = box.box_xyxy
    sides = ((codes.SCT.Width, (x1 - x0) * source.spacing_mm[1]), (codes.DCM.Height, (y1 - y0) * source.spacing_mm[0]))
    return [sr.Measurement(name, round(float(side), 2), own.MILLIMETER, method=method) for name, side in sides]


def _method(source: Source) -> Code | None:
    """Return where the millimeters were measured, None in the patient; PS3.3 10.7.1.3.

    A Pixel Spacing that equals Imager Pixel Spacing was not corrected for magnification.
    """
    if source.spacing_tag == "NominalScannedPixelSpacing":
        return own.ON_FILM
    imager = Dataset()
    if "ImagerPixelSpacing" in source.dataset:
        imager.add(source.dataset["ImagerPixelSpacing"])
    return own.AT_DETECTOR if header.pixel_spacing(imager, [])[0] == source.spacing_mm else None


def _nothing(
    source: Source, thresholds: Mapping[str, float | None], algorithm: Algorithm
) -> sr.MeasurementsAndQualitativeEvaluations:
    """Return the group of an image on which no finding reached its threshold; TID 1501."""
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(hd.UID(), "outcome"),
        source_images=[sr.SourceImageForMeasurementGroup(source.dataset.SOPClassUID, source.dataset.SOPInstanceUID)],
        algorithm_id=_algorithm(algorithm, thresholds),
        qualitative_evaluations=[sr.QualitativeEvaluation(own.OUTCOME, own.NOTHING)],
    )


def _algorithm(algorithm: Algorithm, thresholds: Mapping[str, float | None]) -> sr.AlgorithmIdentification:
    """Return name, version and thresholds; TID 4019."""
    limits = [
        f"threshold {name}: {'not reported' if limit is None else format(limit, '.6g')}"
        for name, limit in thresholds.items()
    ]
    return sr.AlgorithmIdentification(algorithm.name, algorithm.full_version, parameters=limits or None)


def _observer(algorithm: Algorithm) -> sr.ObserverContext:
    return sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=algorithm.device_uid,
            name=algorithm.name,
            manufacturer_name=algorithm.name,
            model_name=algorithm.version,
            serial_number=algorithm.weights_sha256,
        ),
    )


def _note(source: Source) -> str:
    if not source.assumed:
        return RESEARCH_ONLY
    return f"{RESEARCH_ONLY} The source file lacks UIDs; those used here were derived from its sha256."


def _text(value: str) -> sr.TextContentItem:
    return sr.TextContentItem(codes.DCM.Comment, value, relationship_type=sr.RelationshipTypeValues.CONTAINS)
