"""Several readers' boxes of one image -> one set of boxes.

Weighted boxes fusion (Solovyev et al. 2021, https://arxiv.org/abs/1910.13302) with every confidence 1, as the paper
uses it: per image and class the boxes are walked in *reverse file order*; a box joins the cluster whose current fused
box has the highest IoU with it if that IoU is strictly above the threshold (of equal ones, the cluster opened first),
else it opens a cluster; a fused box is the plain mean of its cluster's corners, and a single box passes through. The
result depends on the order, so the order is part of the rule (docs/decisions/010-fusion-order.md). It does not depend
on scale: fusion runs on source pixels.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from d2_cxr.boxes import aligned_iou
from d2_cxr.labels.label_table import CORNERS

PAPER_IOU_THRESHOLD = 0.2


def fuse_annotations(
    boxes: pd.DataFrame, rule: str = "mean", iou_threshold: float = PAPER_IOU_THRESHOLD
) -> pd.DataFrame:
    """Fuse readers' boxes image by image and class by class.

    Args:
        boxes: image_name, class_name, reader_id, x_min, y_min, x_max, y_max in file order (`Annotations.boxes`).
        rule: "mean", the paper's; "majority:K", the same but only clusters to which at least K readers contributed;
            "none", every box as it was drawn (also right for a consensus).
        iou_threshold: in [0, 1); a box joins a cluster above it.

    Returns:
        image_name, class_name, x_min, y_min, x_max, y_max, num_readers (int, distinct readers), reader_ious
        ({reader_id: IoU of the fused box with that reader's box, the highest where there are several}), num_boxes (int)
        and row (int, position in `boxes` of the cluster's first box). Images in order of first appearance, boxes of an
        image by `row`.

    Raises:
        ValueError: an unknown rule or a threshold outside [0, 1).
    """
    min_readers = _min_readers(rule)
    if not 0 <= iou_threshold < 1:
        raise ValueError(f"iou_threshold {iou_threshold} is outside [0, 1)")
    clusters = np.arange(len(boxes)) if rule == "none" else cluster_boxes(boxes, iou_threshold)
    fused = _means(boxes, clusters)
    return fused[fused["num_readers"] >= min_readers].reset_index(drop=True)


def cluster_boxes(boxes: pd.DataFrame, iou_threshold: float = PAPER_IOU_THRESHOLD) -> np.ndarray:
    """Return the cluster (N,) int64 of every box: boxes with equal numbers are fused into one.

    All images and classes are walked at once: step k handles the k-th last box of every (image, class) that has one.
    """
    corners = boxes[CORNERS].to_numpy(np.float64)
    group = boxes.groupby(["image_name", "class_name"], sort=False).ngroup().to_numpy()
    order = np.lexsort((-np.arange(len(boxes)), group))  # within a group, reverse file order
    first = np.r_[True, np.diff(group[order]) != 0] if len(order) else np.zeros(0, bool)
    step = np.arange(len(order)) - np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))

    cluster = np.full(len(boxes), -1, dtype=np.int64)
    sums = np.zeros_like(corners)  # by cluster: sum of corners; a cluster is numbered by the box that opened it
    counts = np.zeros(len(boxes))
    opened: list[np.ndarray] = []  # per step, the boxes that opened a cluster
    by_step = np.argsort(step, kind="stable")
    for walked in np.split(order[by_step], np.cumsum(np.bincount(step))[:-1]) if len(order) else []:
        cluster[walked] = _best_cluster(walked, opened, group, corners, sums, counts, iou_threshold)
        sums[cluster[walked]] += corners[walked]  # one box a group and step, so no cluster is hit twice
        counts[cluster[walked]] += 1
        opened.append(walked[cluster[walked] == walked])
    return cluster


def fusion_report(boxes: pd.DataFrame, fused: pd.DataFrame) -> dict:
    """Count what fusion changed: boxes read, fused, merged away, dropped with their cluster, and seen by one reader.

    Args:
        boxes: what went into `fuse_annotations`.
        fused: what came out.
    """
    kept = int(fused["num_boxes"].sum())
    num_readers = fused["num_readers"].value_counts().sort_index()
    single = int((fused["num_readers"] == 1).sum())
    return {
        "read": len(boxes),
        "fused": len(fused),
        "merged": kept - len(fused),
        "dropped": len(boxes) - kept,
        "by_num_readers": {str(number): int(count) for number, count in num_readers.items()},
        "single_reader_share": single / len(fused) if len(fused) else None,
    }


def _min_readers(rule: str) -> int:
    if rule in ("mean", "none"):
        return 1
    match = re.fullmatch(r"majority:([1-9]\d*)", rule)
    if not match:
        raise ValueError(
            f"fusion rule {str(rule)[:40]!r} is not one of 'mean', 'majority:K' (at least K readers), 'none'"
        )
    return int(match[1])


def _best_cluster(
    walked: np.ndarray,
    opened: list[np.ndarray],
    group: np.ndarray,
    corners: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
    iou_threshold: float,
) -> np.ndarray:
    """Return for each walked box (one a group) the cluster it joins: its own number where it opens one."""
    chosen = walked.copy()
    if not opened:
        return chosen
    place = np.full(group.max() + 1, -1)  # group -> position in `walked`
    place[group[walked]] = np.arange(len(walked))
    best = np.full(len(walked), iou_threshold)
    for clusters in opened:  # in the order of opening, so that of equal IoUs the first stays
        clusters = clusters[place[group[clusters]] >= 0]
        position = place[group[clusters]]
        iou = aligned_iou(corners[walked[position]], sums[clusters] / counts[clusters, None])
        better = iou > best[position]
        best[position[better]] = iou[better]
        chosen[position[better]] = clusters[better]
    return chosen


def _means(boxes: pd.DataFrame, clusters: np.ndarray) -> pd.DataFrame:
    """Average the corners of each cluster and say who contributed."""
    rows = boxes.reset_index(drop=True)
    grouped = rows[CORNERS].groupby(clusters)
    fused = grouped.mean()
    fused["num_boxes"] = grouped.size()
    fused["row"] = pd.Series(np.arange(len(rows))).groupby(clusters).min()
    ious = aligned_iou(rows[CORNERS].to_numpy(), fused[CORNERS].loc[clusters].to_numpy())
    readers: dict[int, dict[str, float]] = {cluster: {} for cluster in fused.index}
    for cluster, reader, iou in zip(clusters.tolist(), rows["reader_id"].tolist(), ious.tolist(), strict=True):
        readers[cluster][reader] = max(iou, readers[cluster].get(reader, 0.0))
    fused["reader_ious"] = pd.Series(readers, dtype=object)
    fused["num_readers"] = [len(ious) for ious in fused["reader_ious"]]
    fused = pd.concat([rows.loc[fused["row"], ["image_name", "class_name"]].set_axis(fused.index), fused], axis=1)
    image = pd.Series(pd.factorize(rows["image_name"])[0])[fused["row"]].to_numpy()
    fused = fused.iloc[np.lexsort((fused["row"], image))].reset_index(drop=True)
    return fused[["image_name", "class_name", *CORNERS, "num_readers", "reader_ious", "num_boxes", "row"]]
