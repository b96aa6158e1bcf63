"""The functions that `from d2_cxr import ...` gives; arguments have the names of the commands' options.

Each is a page of docs/python/. Nothing heavy is imported before a function is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from d2_cxr.checkpoint.weights_card import WeightsCard
    from d2_cxr.evaluation.evaluate import Evaluation

File = str | Path


def prepare(
    images: File,
    annotations: File | None,
    output: File,
    *,
    name: str | None = None,
    classes: str | Sequence[str] | None = None,
    columns: str = "",
    patients: File | None = None,
    negative_names: str | Sequence[str] = (),
    annotation_format: str | None = None,
    fusion: str = "mean",
    size: int = 512,
    resize: str = "squash",
    equalize: str = "histogram",
    window: str = "file",
    findings_only: bool = False,
    test_dicom_dir: File | None = None,
    test_annotations: File | None = None,
    order_csv: File | None = None,
    rename: File | None = None,
    rename_map: File | None = None,
    patient_key: File | None = None,
    split: str | None = None,
    split_by: str | None = None,
    split_like: File | None = None,
    seed: int = 0,
    array: bool = False,
    jobs: int | None = None,
    strict: bool = False,
    shard: tuple[int, int] | None = None,
    progress: bool = True,
) -> dict[str, int]:
    """Prepare a set for Detectron2 from a folder of images and labels, as `d2cxr prepare` does.

    Worker processes decode the images: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        images: folder of DICOM, PNG, JPEG, TIFF or BMP files, searched at any depth.
        annotations: labels as a table or as an annotation tool's files; None: no image has labels.
        output: folder of the set.
        name: of the set; default: the last part of `output`.
        classes: "card", "extended", "from-csv", a file with a class a line, or the names; default: card for a known
            set's name, else from-csv.
        columns: where a table calls its columns otherwise: "label=class_name,filename=image_id".
        negative_names: class names that mean "No finding".
        strict: log problems as errors; `counts["problems"]` says how many there are.

    The others are those of `d2_cxr.preparation.options.PrepareOptions` and `d2_cxr.dicom.preprocess.Preprocess`.

    Returns:
        counts: images by outcome, images and boxes by part, "problems" and "reused".

    Raises:
        ValueError, FileNotFoundError, NotADirectoryError: input that cannot be used, in one line.
    """
    from d2_cxr.datasets.set_folders import BUILTIN
    from d2_cxr.dicom.preprocess import Preprocess
    from d2_cxr.labels.class_names import read_names
    from d2_cxr.labels.csv_headers import read_columns
    from d2_cxr.preparation.options import PrepareOptions
    from d2_cxr.preparation.prepare import prepare as prepare_set

    name = name or Path(output).resolve().name
    options = PrepareOptions(
        images,
        output,
        annotations=annotations,
        columns=read_columns(columns),
        name=name,
        classes=classes or ("card" if name in BUILTIN else "from-csv"),
        patients=patients,
        negative_names=read_names(negative_names) if isinstance(negative_names, str) else negative_names,
        annotation_format=annotation_format,
        fusion=fusion,
        preprocess=Preprocess(size, resize, equalize, window),
        findings_only=findings_only,
        test_dicom_dir=test_dicom_dir,
        test_annotations=test_annotations,
        order_csv=order_csv,
        split=split,
        split_by=split_by,
        split_like=split_like,
        seed=seed,
        rename=rename,
        rename_map=rename_map,
        patient_key=patient_key,
        array=array,
        jobs=jobs,
        strict=strict,
        shard=shard,
        progress=progress,
    )
    return prepare_set(options)


def load_set(name: str, root: File | None = None) -> list[dict]:
    """Return the images of a prepared set as Detectron2's dicts, with their boxes, in the order of the set's files.

    Args:
        name: a data-set name such as "clinic_train" or "clinic_train_labeled_30" (docs/formats.md).
        root: folder of prepared sets; default: `$DETECTRON2_DATASETS`, else `datasets`.

    Returns:
        dicts of file_name, image_id, height, width (prepared pixels), patient where known, and annotations: bbox XYWH
        with bbox_mode, category_id from 0, num_readers. Unlabeled sets have no annotations.

    Raises:
        FileNotFoundError: the set is not prepared; names the command that prepares it.
        ValueError: no set has this name, or its files were changed after preparation.
    """
    from d2_cxr.datasets import builtin, loading
    from d2_cxr.datasets.named_sets import named_set

    if root is not None:
        builtin.register_below(name, root)
    return loading.load(named_set(name))


def evaluate(
    dataset: str,
    results: File,
    output: File | None = None,
    *,
    negative_results: File | None = None,
    root: File | None = None,
    compare: File | None = None,
    thresholds: File | None = None,
    subgroups: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    false_positives: float = 1 / 8,
) -> Evaluation:
    """Evaluate COCO results on a prepared set and write the evaluation's files, as `d2cxr evaluate` does.

    Args:
        dataset: name of images with findings, such as "clinic_test".
        results: COCO results (JSON) of any detector, boxes in prepared pixels.
        output: folder for evaluation.json, matches.npz, thresholds.json and figures; default: that of `results`.
        compare: results or matches.npz of another run on the same images; writes comparison.json.
        thresholds: a thresholds.json chosen on other images.
        subgroups: "CSV:COLUMN", a table with image_id and that column; adds metrics within its subgroups.
        false_positives: per image and class, for the thresholds.json that is written.

    Returns:
        the evaluation; `.document["metrics"]["AP50"]` has value, interval and n.

    Raises:
        FileNotFoundError, ValueError: in one line, before anything is written.
    """
    from d2_cxr.evaluation.files import evaluate_files

    return evaluate_files(
        dataset=dataset,
        results=Path(results),
        output=Path(results).parent if output is None else Path(output),
        negative_results=None if negative_results is None else Path(negative_results),
        root=root,
        other=None if compare is None else Path(compare),
        thresholds=None if thresholds is None else Path(thresholds),
        false_positives=false_positives,
        resamples=resamples,
        seed=seed,
        subgroups=subgroups,
    )


def convert(
    source: File,
    output: File,
    *,
    verify: bool = True,
    detector: File | None = None,
    pixel_mean: Sequence[float] | None = None,
    pixel_std: Sequence[float] | None = None,
    prefix: str | None = None,
    timm: str | None = None,
    trust: bool = False,
) -> WeightsCard:
    """Convert a pretrained backbone to Detectron2 weights with a card, complete and verified, as `d2cxr convert` does.

    Args:
        source: a checkpoint of a self-supervised learner or a state dict: .pth, .pt, .ckpt or .safetensors.
        output: the .pth to write; the config that the weights need is written next to it as .yaml.
        verify: compare features with Detectron2's backbone, stage by stage.
        detector: a Detectron2 detector whose FPN, RPN and heads are kept.
        pixel_mean, pixel_std: RGB, 0-255, for files that do not state them.
        prefix: of the backbone's names in the file, if the file has several.
        timm: name of timm's model, e.g. "tf_efficientnet_lite0"; None is a ResNet.
        trust: also read pickles with more than tensors; only for your own files.

    Returns:
        the card inside the file: architecture, input convention, source, parity.

    Raises:
        ConversionError: the backbone is not complete, or its features differ after conversion.
    """
    from d2_cxr.checkpoint.convert import convert_file

    return convert_file(
        source,
        output,
        verify=verify,
        detector=detector,
        pixel_mean=None if pixel_mean is None else list(pixel_mean),
        pixel_std=None if pixel_std is None else list(pixel_std),
        prefix=prefix,
        timm=timm,
        trust=trust,
    )
