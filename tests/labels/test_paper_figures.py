"""Every figure of docs/paper.md that labels alone give, on the real annotation file."""

import time

import pytest

from d2_cxr.audit.label_audits import label_audits
from d2_cxr.labels import splits, vindr_cxr
from d2_cxr.labels.annotations import read_annotations
from d2_cxr.labels.fusion import fuse_annotations
from d2_cxr.labels.statistics import label_statistics

TRAIN_IMAGES = {
    "Aortic enlargement": 2178,
    "Cardiomegaly": 1616,
    "Pleural thickening": 1560,
    "Pulmonary fibrosis": 1276,
    "Lung Opacity": 1057,
    "Other lesion": 885,
    "Pleural effusion": 843,
    "Nodule/Mass": 640,
    "Infiltration": 491,
    "Calcification": 355,
    "ILD": 314,
    "Consolidation": 301,
    "Atelectasis": 161,
    "Pneumothorax": 81,
}
EXPECTED_EXPOSURES = {
    "Aortic enlargement": 3064,
    "Pleural thickening": 2526,
    "Pulmonary fibrosis": 2145,
    "Cardiomegaly": 2138,
    "Lung Opacity": 1866,
    "Other lesion": 1521,
    "Pleural effusion": 1510,
    "Nodule/Mass": 1119,
    "Infiltration": 940,
    "Calcification": 701,
    "Consolidation": 685,
    "ILD": 647,
    "Atelectasis": 462,
    "Pneumothorax": 316,
}
CEIL_EXPOSURES = [3782, 3183, 2671, 2640, 2490, 1997, 1977, 1423, 1150, 926, 763, 679, 498, 324]


@pytest.fixture(scope="module")
def annotations(vinbigdata_csv):
    return read_annotations(vinbigdata_csv)


@pytest.fixture(scope="module")
def found(annotations):
    return label_statistics(annotations)


@pytest.fixture(scope="module")
def audits(annotations):
    return label_audits(annotations, fuse_annotations(annotations.boxes))


def test_images_and_boxes(found, annotations):
    images = {key: found["images"][key] for key in ("total", "with_finding", "train", "val", "test", "negative")}
    assert images == {
        "total": 15000,
        "with_finding": 4394,
        "train": 3075,
        "val": 440,
        "test": 879,
        "negative": 10606,
    }
    assert found["boxes"] == {"read": 36096, "fused": 21195}
    assert found["split"] == {"rule": "published", "seed": None, "is_the_papers": True}
    assert len(annotations.readings) == 45000
    assert not any(found["problems"].values())


def test_fusion_in_other_orders_and_at_another_threshold(annotations):
    in_file_order = annotations.boxes.iloc[::-1].reset_index(drop=True)
    assert len(fuse_annotations(in_file_order)) == 21212
    assert len(fuse_annotations(annotations.boxes, iou_threshold=0.4)) == 22719


def test_more_than_half_of_the_fused_boxes_are_one_readers(found):
    assert round(100 * found["fusion"]["single_reader_share"]) == 55


def test_the_published_images_have_the_stored_fingerprints(annotations):
    split = splits.published_split(annotations.finding_ids)
    assert vindr_cxr.is_published(split)
    assert not vindr_cxr.is_published({**split, "val": split["val"][::-1]})


def test_label_fractions(found):
    labeled = [entry["labeled"] for entry in found["fractions"].values()]
    assert labeled == [2767, 2460, 2152, 1845, 1537, 1230, 922, 615, 307]
    assert all(sum(entry.values()) == 3075 for entry in found["fractions"].values())


def test_training_images_of_each_class(found):
    assert {name: entry["train_images"] for name, entry in found["classes"].items()} == TRAIN_IMAGES


def test_class_balance_by_stochastic_rounding(found):
    assert round(found["epoch_length"]["stochastic"], 2) == 4657.88
    rounded = {name: round(entry["expected_exposures"]) for name, entry in found["classes"].items()}
    assert rounded == EXPECTED_EXPOSURES


def test_class_balance_by_ceiling(found):
    assert found["epoch_length"]["ceil"] == 5774
    exposures = {name: entry["ceil_exposures"] for name, entry in found["classes"].items()}
    assert sorted(exposures.values(), reverse=True) == CEIL_EXPOSURES
    named = ("Pleural effusion", "Other lesion", "Consolidation", "Calcification")
    assert [exposures[name] for name in named] == [1997, 1977, 926, 763]


def test_density_slopes_under_the_published_split(found, audits):
    assert {name: round(value, 2) for name, value in found["density"].items()} == {
        "train": 5.48,
        "val": 3.85,
        "test": 3.03,
        "last_307": 4.38,
    }
    audit = audits["density_by_position"]
    assert audit["p"] < 0.001
    assert [round(audit["random_draws"][key], 2) for key in ("draws", "min", "max")] == [500, 4.72, 6.28]
    assert {part: round(value, 2) for part, value in audit["raw_boxes"].items()} == {"train": 9.2, "test": 5.51}
    shuffled = audit["raw_boxes_rows_shuffled"]
    assert (shuffled["train"], shuffled["test"]) == (pytest.approx(9.18, abs=0.03), pytest.approx(5.5, abs=0.05))


def test_rare_classes_on_test_images(annotations):
    split = splits.published_split(annotations.finding_ids)
    labels = splits.label_matrix(split["test"], annotations.boxes, annotations.class_names)
    images = dict(zip(annotations.class_names, labels.sum(axis=0).tolist(), strict=True))
    assert (images["Pneumothorax"], images["Atelectasis"]) == (8, 18)


def agreement(found, readers, subset="test"):
    return next(entry for entry in found["agreement"] if entry["readers"] == readers and entry["subset"] == subset)


def rounded(entry):
    return entry["n"], round(entry["mean"], 3), round(entry["std"], 3)


def test_reader_agreement_as_printed_and_under_one_definition(found):
    r8_r9, r8_r10 = agreement(found, ["R8", "R9"]), agreement(found, ["R8", "R10"])
    assert rounded(r8_r9["pairs_all"]) == (1137, 0.580, 0.284)  # printed
    assert rounded(r8_r10["pairs_iou>0.2"]) == (943, 0.674, 0.149)  # printed
    assert rounded(r8_r9["pairs_iou>0.2"]) == (951, 0.689, 0.152)
    assert (r8_r9["images"], r8_r10["images"]) == (747, 750)
    assert (r8_r9["images_both_drew"], r8_r10["images_both_drew"]) == (809, 809)


def test_every_pair_of_readers_is_there_in_number_order(found):
    pairs = [tuple(entry["readers"]) for entry in found["agreement"] if entry["subset"] == "all"]
    assert len(pairs) == len(set(pairs)) == 136  # 17 readers
    assert ("R8", "R10") in pairs
    assert ("R10", "R8") not in pairs


def test_one_trio_holds_the_test_set(audits):
    commonest = audits["reader_shift"]["commonest"]
    assert commonest["readers"] == ["R8", "R9", "R10"]
    read = audits["readers_predict_findings"]["commonest"]
    assert (read["images"], read["with_finding"]) == (5501, 4146)
    assert round(100 * 4146 / 4394) == 94


def test_the_readers_names_alone_predict_findings(audits):
    predicted = audits["readers_predict_findings"]
    assert predicted["any_finding"]["auroc"] == pytest.approx(0.926, abs=0.005)
    assert predicted["classes"]["Pneumothorax"]["auroc"] > 0.7


def test_readers_agree_on_large_shapes_and_not_on_small_ones(audits):
    f1 = {name: entry["f1"] for name, entry in audits["box_f1"]["classes"].items()}
    assert round(f1["Cardiomegaly"], 2) == 0.81
    assert round(f1["Pleural thickening"], 2) == 0.26
    assert round(audits["box_f1"]["all"]["f1"], 2) == 0.50


def test_the_stratified_split_has_no_slope_and_keeps_every_class_share(annotations):
    found = label_statistics(annotations, "stratified", seed=0)
    assert found["density"]["train"] == pytest.approx(found["density"]["test"], abs=0.3)
    for entry in found["classes"].values():
        assert entry["train_images"] == pytest.approx(0.7 * entry["images"], abs=2 + 0.02 * entry["images"])


def test_shuffled_rows_give_another_split_and_are_noticed(annotations):
    shuffled = annotations.boxes.sample(frac=1, random_state=0)["image_name"].tolist()
    assert not vindr_cxr.is_published(splits.published_split(shuffled))


def test_the_whole_file_takes_at_most_three_seconds(vinbigdata_csv):
    start = time.process_time()
    annotations = read_annotations(vinbigdata_csv)
    label_statistics(annotations)
    label_audits(annotations, fuse_annotations(annotations.boxes))
    assert time.process_time() - start < 3
