"""What is delivered, and for which image: boxes with scores, the algorithm, and the identity of the source file.

An object that is filed with an image in an archive needs the image's patient, study, series and instance. They are
copied unchanged from the source file; nothing else of its header is read, so nothing else can be passed on.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from d2_cxr import artifacts
from d2_cxr.dicom import header
from d2_cxr.dicom.image_files import ImageError
from d2_cxr.dicom.reading import is_dicom
from d2_cxr.image_name import image_name

UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
# Patient and General Study modules, PS3.3 C.7.1.1 and C.7.2.1: what an archive files a new object by. All of type 2 but
# the last; these stay empty where the source has none.
IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "IssuerOfPatientID"),
)
# How the image is shown, for a presentation state, PS3.3 C.11; numbers and tables only.
_DISPLAY = (
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape"),
)
_PIXELS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsStored"),
    *("PixelRepresentation", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
)
_HEAD = 140  # bytes that identify a DICOM file
_ASSUMED_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation


class DeliveryError(ValueError):
    """Findings cannot be delivered for this file; the message names file, tag and value."""


@dataclass(frozen=True)
class ScoredBox:
    """One finding.

    Attributes:
        class_name: as it is printed.
        score: in [0, 1]; no calibrated probability.
        box_xyxy: in the source image's pixels, in [0, width] x [0, height]; (0, 0) is the outer corner of the first
            pixel and (0.5, 0.5) its center, which is DICOM's convention too (PS3.3 C.18.6.1.1).
    """

    class_name: str
    score: float
    box_xyxy: tuple[float, float, float, float]

    def polyline(self) -> list[tuple[float, float]]:
        """Return the closed outline, five (column, row) points, clockwise from the top left corner."""
        x0, y0, x1, y1 = (float(value) for value in self.box_xyxy)
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]


@dataclass(frozen=True)
class Algorithm:
    """Who found it.

    Attributes:
        name: of the product.
        version: of the product.
        weights_sha256: hex digest of the weights file.
    """

    name: str
    version: str
    weights_sha256: str

    @property
    def full_version(self) -> str:
        """The version with the hash of the weights."""
        return f"{self.version}, weights sha256 {self.weights_sha256}"

    @property
    def device_uid(self) -> str:
        """A UID of these weights, PS3.5 B.2."""
        return _uid(self.weights_sha256)


@dataclass(frozen=True)
class Source:
    """The image that findings are delivered for.

    Attributes:
        path: of the file.
        dataset: identity, size and display attributes of its header; nothing else.
        width, height: pixels.
        spacing_mm: (row, column) or None.
        spacing_tag: keyword of the attribute that gave the spacing, "" where none did.
        assumed: UIDs were derived from the file's sha256, because it has none.
    """

    path: Path
    dataset: Dataset
    width: int
    height: int
    spacing_mm: tuple[float, float] | None
    spacing_tag: str
    assumed: bool = False

    def check(self, boxes: Sequence[ScoredBox]) -> None:
        """Raise DeliveryError where a box is not a box of this image, or its score not a number in [0, 1]."""
        for box in boxes:
            if not 0 <= box.score <= 1:
                raise DeliveryError(f"{self.path}: the score {box.score} of {box.class_name} is not in [0, 1]")
            x0, y0, x1, y1 = box.box_xyxy
            if not (0 <= x0 < x1 <= self.width and 0 <= y0 < y1 <= self.height):
                raise DeliveryError(
                    f"{self.path}: box {tuple(round(float(v), 2) for v in box.box_xyxy)} of {box.class_name} is not "
                    f"a box within {self.width} x {self.height} pixels"
                )


def read_source(path: str | Path, assume_uids: bool = False) -> Source:
    """Read the identity of a DICOM image.

    Args:
        path: DICOM file with one frame.
        assume_uids: derive the UIDs that are missing from the file's sha256, the same ones every time.

    Raises:
        DeliveryError: it is not a DICOM file, has several frames, or lacks a UID.
    """
    path = Path(path)
    dataset = _read(path)
    _check_frames(path, dataset)
    missing = [keyword for keyword in UIDS if not _is_uid(dataset, keyword)]
    if missing and not assume_uids:
        raise DeliveryError(
            f"{path} lacks {', '.join(map(header.element_name, missing))}, so no report can refer to it; "
            "--assume-uids derives them from the file's sha256"
        )
    if missing:
        _assume(dataset, missing, artifacts.sha256_file(path))
    if "Image Storage" not in UID(dataset.SOPClassUID).name:
        raise DeliveryError(f"{path}: SOP Class UID (0008,0016) {dataset.SOPClassUID} is not an image class of DICOM")
    spacing, tag = header.pixel_spacing(dataset, [])
    return Source(path, dataset, int(dataset.Columns), int(dataset.Rows), spacing, tag, bool(missing))


def image_names(folder: str | Path) -> dict[str, str]:
    """Return SOP instance UID -> image name of a folder of images, searched through.

    Images without UIDs are known by those that `assume_uids` derives.

    Raises:
        FileNotFoundError: there is no such folder.
        DeliveryError: it holds no DICOM image, or two of the same UID and different names.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist")
    names: dict[str, str] = {}
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        try:
            uid = read_source(path, assume_uids=True).dataset.SOPInstanceUID
        except DeliveryError:
            continue  # the folder may also contain reports and pictures
        if names.setdefault(uid, image_name(path)) != image_name(path):
            raise DeliveryError(f"{path} has the SOP Instance UID of another image, {names[uid]}")
    if not names:
        raise DeliveryError(f"{folder} holds no DICOM image")
    return names


def identified_copy(source: Source) -> bytes:
    """Return the source file with the UIDs that were assumed for it, pixels and all else unchanged.

    An archive needs the image under the UIDs that the report points to.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes odd values
        dataset = pydicom.dcmread(source.path, force=True)
        for keyword in UIDS:
            setattr(dataset, keyword, source.dataset[keyword].value)
        for keyword in (*IDENTITY[:-1], "Modality"):  # type 2 of every image, PS3.3 A.26
            if keyword not in dataset:
                setattr(dataset, keyword, "DX" if keyword == "Modality" else "")
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        return to_bytes(dataset)


def with_identity(dataset: Dataset, source: Source) -> Dataset:
    """Put the source's patient and study into a new object, as they are written in the source."""
    for keyword in IDENTITY:
        if keyword in source.dataset:
            setattr(dataset, keyword, source.dataset[keyword].value)
    return dataset


def without_identity(source: Source) -> Source:
    """Return the source with empty names and dates: what highdicom builds from, so that it need not parse them."""
    dataset = Dataset()
    dataset.update({element.tag: element for element in source.dataset if element.keyword not in IDENTITY})
    for keyword in IDENTITY[:-1]:
        setattr(dataset, keyword, None if keyword == "PatientSex" else "")
    return replace(source, dataset=dataset)


def to_bytes(dataset: Dataset) -> bytes:
    """Return a DICOM file's bytes."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _read(path: Path) -> Dataset:
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if not is_dicom(head):
        raise DeliveryError(f"{path} is not a DICOM file: it has no patient and no study that a report could belong to")
    keywords = [*UIDS, *IDENTITY, *_DISPLAY, *_PIXELS, "SpecificCharacterSet", "Modality"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=keywords)
            dataset.decode()
            missing = [name for name in ("Rows", "Columns") if not int(header.number(dataset, name) or 0) > 0]
            header.check_modality(dataset)
        except ImageError as error:
            raise DeliveryError(f"{path}: {error}") from None
        except Exception as error:  # pydicom raises a dozen kinds, and some quote the header
            raise DeliveryError(f"{path}: its header cannot be read ({type(error).__name__})") from error
    if missing:
        raise DeliveryError(f"{path} lacks {', '.join(map(header.element_name, missing))}: no image")
    for keyword in IDENTITY[:-1]:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    return dataset


def _check_frames(path: Path, dataset: Dataset) -> None:
    frames = header.number(dataset, "NumberOfFrames") or 1
    if frames > 1:
        raise DeliveryError(f"{path}: Number of Frames (0028,0008) is {frames:g}: only images of one frame are read")


def _is_uid(dataset: Dataset, keyword: str) -> bool:
    """Whether a UID is there that an archive can file; zeros that should not lead a component are met, and kept."""
    return bool(re.fullmatch(r"[0-9]+(\.[0-9]+)+", str(dataset.get(keyword) or ""))) and len(dataset.get(keyword)) <= 64


def _assume(dataset: Dataset, missing: Sequence[str], sha256: str) -> None:
    for keyword in missing:
        uid = _ASSUMED_CLASS if keyword == "SOPClassUID" else _uid(artifacts.sha256_lines([sha256, keyword]))
        setattr(dataset, keyword, uid)


def _uid(sha256: str) -> str:
    """Return a UID of the root 2.25 from the first 128 bits of a digest, PS3.5 B.2."""
    return f"2.25.{int(sha256[:32], 16)}"
