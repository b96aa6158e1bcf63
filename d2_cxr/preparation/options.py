"""What can be chosen in a preparation, in one place: the tool's flags, a study's settings and `prepare` share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from d2_cxr.dicom.preprocess import Preprocess
from d2_cxr.labels.patients import IN_NAMES
from d2_cxr.preparation.workers import LIMIT_S


@dataclass(frozen=True)
class PrepareOptions:
    """Inputs and rules of a preparation.

    Attributes:
        dicom_dir: folder, or zip or tar archive, of images as DICOM, PNG, JPEG, TIFF or BMP, at any depth. An image's
            name is its file name without the suffix, or, where many files share a name in different folders, its path
            below this folder or in the archive.
        output: folder of the set; its last part is usually its name.
        annotations: labels (d2_cxr/labels/formats); None: every image is unlabeled.
        name: of the set; only "vindr_cxr" has a published split.
        classes: "card", "extended", "from-csv", a file with a class a line, or the names.
        columns: of the tables, their column -> ours (d2_cxr/labels/csv_headers.py).
        patients: CSV of image_id and patient_id; or "names": the part before the last _ or - of an image's name.
        negative_names: class names that mean "No finding".
        annotation_format: csv, coco, yolo, voc, cvat, label_studio or labelme; None: detected.
        fusion: "mean", "majority:K" or "none".
        preprocess: how images become network input.
        findings_only: only images with findings (and the official test images).
        test_dicom_dir, test_annotations: VinDr-CXR's official test images and their consensus boxes.
        order_csv: table whose finding rows give the published order.
        split: "stratified"; "given", by a column `split` (train, val, test) of the annotations or patients CSV, or by
            the files of the labels (instances_train.json, ...); "all-train"; "all-test"; None: given where there is
            such a column or such files, else stratified.
        split_by: "COLUMN=VALUE,VALUE" of one of these tables: images with these values are the test set. With
            "fold=VALUE" those of the next fold are the validation set.
        split_like: an earlier set of these images: its val and test images stay val and test, with all images of their
            patients, and all others are train. So labels can be added without another test.
        seed: of the stratified split and of the images without findings.
        rename: key file; image names become pseudonyms (HMAC-SHA256). A file that does not exist is made.
        rename_map: CSV of names and pseudonyms to write; None: the map is written nowhere.
        patient_key: key file; patients get pseudonyms, so that sets made with one key can be searched for common
            patients. A file that does not exist is made.
        array: also write images.npy.
        jobs: worker processes; None: as many as processors.
        strict: log problems as errors; the caller decides by counts["problems"].
        shard: (i, n), i from 1: prepare only every n-th image, and no lists; a run without it finishes the set.
        limit_s: seconds for one image; then its worker is ended and the image quarantined.
        progress: show a bar.
    """

    dicom_dir: str | Path
    output: str | Path
    annotations: str | Path | None = None
    name: str = "vindr_cxr"
    classes: str | Sequence[str] = "card"
    columns: Mapping[str, str] = field(default_factory=dict)
    patients: str | Path | None = None
    negative_names: Sequence[str] = ()
    annotation_format: str | None = None
    fusion: str = "mean"
    preprocess: Preprocess = field(default_factory=Preprocess)
    findings_only: bool = False
    test_dicom_dir: str | Path | None = None
    test_annotations: str | Path | None = None
    order_csv: str | Path | None = None
    split: str | None = None
    split_by: str | None = None
    split_like: str | Path | None = None
    seed: int = 0
    rename: str | Path | None = None
    rename_map: str | Path | None = None
    patient_key: str | Path | None = None
    array: bool = False
    jobs: int | None = None
    strict: bool = False
    shard: tuple[int, int] | None = None
    limit_s: float = LIMIT_S
    progress: bool = True

    @property
    def patients_csv(self) -> str | Path | None:
        """The table of patients, None without one."""
        return None if self.patients == IN_NAMES else self.patients

    def __post_init__(self):
        if bool(self.test_dicom_dir) != bool(self.test_annotations):
            raise ValueError("--test-dicom-dir and --test-annotations go together; give both")
        if self.findings_only and not self.annotations:
            raise ValueError("--findings-only needs --annotations")
        if self.split not in (None, "stratified", "given", "all-train", "all-test"):
            raise ValueError(f"split {self.split!r} is not one of stratified, given, all-train, all-test")
        if (self.split or self.split_by) and not self.annotations:
            raise ValueError("--split and --split-by need --annotations")
        if self.split_by and self.split not in (None, "given"):
            raise ValueError("--split-by replaces --split; give one of them")
        if self.split_like and (self.split or self.split_by or not self.annotations):
            raise ValueError("--split-like needs --annotations and replaces --split and --split-by; leave these out")
        if self.rename_map and not self.rename:
            raise ValueError("--rename-map needs --rename KEYFILE")
        if self.shard and not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"--shard {self.shard[0]}/{self.shard[1]} is not i/n with i from 1 to n")
