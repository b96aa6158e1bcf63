"""The Detectron2 evaluator: collects predictions and hands them to `evaluate`.

Use it in place of `COCOEvaluator`. It needs a data set whose metadata names a COCO JSON.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils import comm

from d2_cxr import artifacts
from d2_cxr.counted import counted
from d2_cxr.evaluation import thresholds
from d2_cxr.evaluation.evaluate import Evaluation, evaluate
from d2_cxr.evaluation.files import NEGATIVE_RESULTS
from d2_cxr.evaluation.ground_truth import load_coco, readers_of, training_set

logger = logging.getLogger(__name__)

_DETECTRON2_NAMES = {  # as COCOEvaluator calls them, in percent
    "AP": "mAP",
    "AP50": "AP50",
    "AP75": "AP75",
    "APs": "AP_small",
    "APm": "AP_medium",
    "APl": "AP_large",
    "AR1": "AR_1",
    "AR10": "AR_10",
    "AR100": "AR_100",
    "AR-agnostic": "AR_agnostic",
}


class CXREvaluator(DatasetEvaluator):
    """Evaluate boxes on a registered set, with intervals; writes the files of `inference/<dataset>/` (docs/formats.md).

    The loader may run over `dataset_name` and `negative_dataset` together: their image ids differ.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None,
        resamples: int = 1000,
        seed: int = 0,
        negative_dataset: str | None = None,
        train_dataset: str | None = None,
        chosen_thresholds: Mapping | None = None,
        class_names: Sequence[str] | None = None,
    ):
        """
        Args:
            dataset_name: images with findings.
            output_dir: where to write; None writes nothing.
            resamples: of images for every interval.
            negative_dataset: images without findings of the same split, for false positives and AUROC.
            train_dataset: training images of the prior-box row; default: NAME_train for NAME_test and NAME_val.
            chosen_thresholds: content of a `thresholds.json` from other images, to report at.
            class_names: of the model, index = its category; None: those of the data set in its order. What the model
                finds of classes that the data set does not have is left out.
        """
        self._name, self._negative_name = dataset_name, negative_dataset
        self._train_name = train_dataset or training_set(dataset_name)
        self._output_dir = Path(output_dir) if output_dir else None
        self._resamples, self._seed, self._thresholds = resamples, seed, chosen_thresholds
        self._class_names = class_names
        self.evaluation: Evaluation | None = None  # of the last evaluate(), on the main process
        self.reset()

    def reset(self) -> None:
        """Forget the results of the images so far."""
        self._results: list[dict] = []
        self._seen: list[int] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take Detectron2's inputs (`image_id`) and outputs (`instances` in pixels of the prepared image)."""
        for image, output in zip(inputs, outputs, strict=True):
            self._seen.append(image["image_id"])
            self._results += instances_to_coco_json(output["instances"].to("cpu"), image["image_id"])

    def evaluate(self) -> dict:
        """Return {"bbox": {"AP", "AP50", ...}} in percent like COCOEvaluator; {} on processes other than the main one.

        Raises:
            ValueError: images of the evaluated sets got no prediction.
        """
        results, seen = self._gathered()
        if not comm.is_main_process():
            return {}
        truth = load_coco(self._name)
        negative_truth = load_coco(self._negative_name) if self._negative_name else None
        _require_all(seen, truth, self._name)
        if negative_truth is not None and self._negative_name:
            _require_all(seen, negative_truth, self._negative_name)
        results = _with_dataset_categories(results, truth, self._class_names)
        prepared_root = MetadataCatalog.get(self._name).get("prepared_root")
        self.evaluation = evaluate(
            truth,
            results,
            negative_truth,
            resamples=self._resamples,
            seed=self._seed,
            train_truth=load_coco(self._train_name) if self._train_name else None,
            dataset=self._name,
            chosen_thresholds=self._thresholds,
            check=False,  # Detectron2's own conversion, of images that were all seen
            **(readers_of(prepared_root) if prepared_root else {}),
        )
        if self._output_dir is not None:
            self._write(self._output_dir, self.evaluation, results, truth)
        return {"bbox": _detectron2_results(self.evaluation)}

    def _gathered(self) -> tuple[list[dict], set[int]]:
        comm.synchronize()
        parts = comm.gather((self._results, self._seen), dst=0)
        results = list(itertools.chain.from_iterable(part[0] for part in parts))
        return results, set(itertools.chain.from_iterable(part[1] for part in parts))

    def _write(self, output: Path, evaluation: Evaluation, results: list[dict], truth: Mapping) -> None:
        own = {image["id"] for image in truth["images"]}
        findings = [row for row in results if row["image_id"] in own]
        artifacts.write_json(output / "coco_instances_results.json", findings, indent=None)
        if self._negative_name:
            negatives = [row for row in results if row["image_id"] not in own]
            artifacts.write_json(output / NEGATIVE_RESULTS, negatives, indent=None)
        artifacts.write_json(output / "thresholds.json", thresholds.choose(evaluation.matches, self._name))
        path = evaluation.write(output)
        logger.info("Evaluated %s of %s: %s", counted(len(truth["images"]), "image"), self._name, path)


def _require_all(seen: set[int], truth: Mapping, name: str) -> None:
    missing = [image["file_name"] for image in truth["images"] if image["id"] not in seen]
    if missing:
        raise ValueError(
            f"{counted(len(missing), 'image', of=len(truth['images']))} of {name} got no prediction, first {missing[0]}"
        )


def _with_dataset_categories(results: list[dict], truth: Mapping, class_names: Sequence[str] | None) -> list[dict]:
    """Number classes as the JSON does, by name (the model counts from 0); drop classes that the JSON lacks."""
    id_of = {category["name"]: category["id"] for category in truth["categories"]}
    names = class_names or sorted(id_of, key=id_of.__getitem__)
    ids = [id_of.get(name) for name in names]
    return [{**row, "category_id": ids[row["category_id"]]} for row in results if ids[row["category_id"]] is not None]


def _detectron2_results(evaluation: Evaluation) -> dict[str, float]:
    per_class = {f"AP-{name}": evaluation.value("AP", name) for name in evaluation.matches.class_names}
    values = {name: evaluation.value(ours) for name, ours in _DETECTRON2_NAMES.items()} | per_class
    return {name: math.nan if value is None else 100 * value for name, value in values.items()}
