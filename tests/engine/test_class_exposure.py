import pytest
import torch

from d2_cxr.datasets.samplers import image_repeat_factors, with_negatives
from d2_cxr.engine.build_loaders import TrainingImages
from d2_cxr.engine.class_exposure import exposures, log_preview, preview


def images(categories, threshold, negatives=0, ratio=0.0):
    findings = [{"annotations": [{"category_id": c} for c in sorted(classes)]} for classes in categories]
    factors = with_negatives(image_repeat_factors(categories, threshold), negatives, ratio)
    return TrainingImages(findings, [{"annotations": []}] * negatives, factors, ("common", "rare", "absent"))


CATEGORIES = [{0, 1}] + [{0}] * 8 + [set()]  # class 0 on 9 of 10 images, class 1 on 1


def test_exposures_tell_what_balancing_changes():
    common, rare, absent = exposures(images(CATEGORIES, 0.4))
    assert (common["images"], common["plain"]) == (9, 9.0)
    assert common["balanced"] == pytest.approx(10.0)  # the image with both is shown twice
    assert (rare["frequency"], rare["plain"]) == (0.1, 1.0)
    assert rare["balanced"] == pytest.approx(2.0)  # sqrt(0.4 / 0.1)
    assert (absent["images"], absent["balanced"]) == (0, 0.0)


def test_the_preview_counts_images_and_warns(caplog):
    values = preview(images(CATEGORIES, 0.4, negatives=4, ratio=0.5), 0.4, {"text": "1 epoch"})
    assert values["num_images"] == 10 and values["num_images_without_boxes"] == 1
    assert values["num_negative_images"] == 4
    assert values["negative_images_an_epoch"] == pytest.approx(5.5)  # half of 11 images with findings shown
    assert values["epoch_length"] == pytest.approx(16.5)
    assert values["warnings"] == ["no training image shows absent: it cannot be learned"]
    caplog.set_level("INFO", logger="d2_cxr.engine.class_exposure")
    log_preview(values)
    assert "an epoch is 16.50 images" in caplog.text and "no training image shows absent" in caplog.text


def test_a_threshold_that_changes_nothing_is_told():
    values = preview(images(CATEGORIES, 0.05), 0.05, {"text": ""})
    assert "REPEAT_THRESHOLD 0.05 changes nothing: the rarest class is on 10% of the images" in values["warnings"][-1]
    assert not any("changes nothing" in text for text in preview(images(CATEGORIES, 0), 0.0, {"text": ""})["warnings"])


def test_negative_images_leave_the_repeat_factors_alone():
    with_them = images(CATEGORIES, 0.4, negatives=100, ratio=1.0).factors[:10]
    assert torch.equal(with_them, images(CATEGORIES, 0.4).factors)
