import numpy as np
import torch

from d2_cxr.datasets.named_sets import named_set
from d2_cxr.engine import teacher_pool
from d2_cxr.engine.build_loaders import build_train_loader, training_images
from d2_cxr.engine.run_sets import RunSets
from d2_cxr.engine.strong_view import strong_view
from d2_cxr.image_name import image_name

TEACHER = [
    "DATASETS.TRAIN",
    "('tiny_cxr_train_labeled_50_seed1',)",
    "SOLVER.MAX_ITER",
    "4",
    "CXR.TEACHER.BURN_IN",
    "0.5",
]


def test_the_pool_is_without_labels_and_without_labeled_images(tiny_cfg):
    cfg = tiny_cfg(*TEACHER, "CXR.TEACHER.POOL", "['tiny_cxr_train_unlabeled']", "CXR.NEGATIVE_RATIO", "1.0")
    labeled = training_images(cfg, RunSets.of(cfg))
    pool = teacher_pool.load_pool(cfg, labeled)
    assert len(labeled.findings) == 6 and len(pool.images) == 12 - 6
    assert not {image["file_name"] for image in pool.images} & {image["file_name"] for image in labeled.images}
    assert all(image["annotations"] == [] for image in pool.images)


def test_a_cut_pool_is_cut_before_the_labeled_images_leave_it(tiny_cfg):
    cfg = tiny_cfg(*TEACHER, "CXR.TEACHER.POOL", "['tiny_cxr_train_unlabeled_pool_50_seed1']")
    labeled, cut = training_images(cfg, RunSets.of(cfg)), set(named_set(cfg.CXR.TEACHER.POOL[0]).image_names())
    names = {image_name(image["file_name"]) for image in teacher_pool.load_pool(cfg, labeled).images}
    assert len(cut) == 6 and names == cut - {image_name(image["file_name"]) for image in labeled.images}


def test_negatives_that_are_shown_as_negatives_leave_the_pool(tiny_cfg):
    opts = ["CXR.TEACHER.POOL", "['tiny_cxr_train_unlabeled', 'tiny_cxr_negative_train']"]
    cfg = tiny_cfg(*TEACHER, *opts, "CXR.NEGATIVE_RATIO", "1.0")
    assert len(teacher_pool.load_pool(cfg, training_images(cfg, RunSets.of(cfg))).images) == 6


def test_batches_have_pool_images_after_the_burn_in_and_go_on_where_a_run_stopped(tiny_cfg):
    cfg = tiny_cfg(*TEACHER, "CXR.TEACHER.POOL", "['tiny_cxr_train_unlabeled']", "CXR.TEACHER.RATIO", "1.5")

    def batches(start, count):
        labeled = training_images(cfg, RunSets.of(cfg))
        loader, sampler = build_train_loader(cfg, labeled, seed=3)
        both = teacher_pool.PoolLoader(cfg, loader, teacher_pool.load_pool(cfg, labeled), seed=3)
        sampler.start = 2 * start
        both.start_at(start)
        return [batch for batch, _ in zip(iter(both), range(count), strict=False)]

    whole = batches(0, 5)
    assert [len(batch) for batch in whole] == [2, 2, 5, 5, 5]  # 2 labeled, 1.5 times as many unlabeled
    assert [["strong" in sample for sample in batch] for batch in whole[1:3]] == [[False] * 2, [False] * 2 + [True] * 3]
    assert all(len(sample["instances"]) == 0 for sample in whole[2][2:])
    for start in (1, 3):
        for ours, theirs in zip(batches(start, 2), whole[start:], strict=False):
            assert [sample["image_id"] for sample in ours] == [sample["image_id"] for sample in theirs]
            for key in ("image", "strong"):
                pairs = [(a[key], b[key]) for a, b in zip(ours, theirs, strict=True) if key in a]
                assert all(torch.equal(a, b) for a, b in pairs)


def test_the_preview_says_what_a_step_costs(tiny_cfg):
    """3 parts of labels, forward and backward; 4 of the pool, the teacher's forward pass as well."""
    cfg = tiny_cfg(*TEACHER, "CXR.TEACHER.POOL", "['tiny_cxr_train_unlabeled']")
    pool = teacher_pool.load_pool(cfg, training_images(cfg, RunSets.of(cfg)))
    shown = teacher_pool.preview(pool, {"max_iter": 4, "batch": 2})
    assert shown["step_cost"] == (3 * 2 + 4 * 2) / (3 * 2) and shown["run_cost"] == (2 + 2 * 14 / 6) / 4
    assert shown["text"].startswith("2 iterations on labels, then 2 with 2 of 6 pool images each (0.667 epochs")
    assert "such a step costs about 2.33 times a labeled one" in shown["text"]


def test_a_strong_view_depends_on_its_seed_alone():
    image = np.random.default_rng(0).integers(0, 256, (40, 30)).astype(np.uint8)
    before = image.copy()
    a, b, c = (strong_view(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert a.dtype == np.uint8 and a.shape == image.shape and (a == b).all() and (a != c).any()
    assert (image == before).all()


def test_strong_views_keep_most_of_the_image_recognizable():
    """Nothing moves: over many views the correlation with the image is high, and some are cut."""
    row = np.linspace(0, 255, 64)
    image = np.add.outer(row, row).astype(np.float64) / 2
    views = [strong_view(image.astype(np.uint8), np.random.default_rng(seed)) for seed in range(40)]
    found = [np.corrcoef(view.ravel(), image.ravel())[0, 1] for view in views]
    assert min(found) > 0.3 and np.median(found) > 0.7 and min(found) < 0.95
