"""The configuration keys that are ours, all under `CXR`."""

from __future__ import annotations


def add_cxr_config(cfg) -> None:
    """Add the `CXR` keys, with defaults that reproduce plain Detectron2, to a Detectron2 CfgNode in place."""
    node = type(cfg)  # detectron2.config.CfgNode, without importing Detectron2 here
    cfg.CXR = node()

    # Own prepared sets to register before anything is loaded: [[name, folder of the prepared set], ...].
    cfg.CXR.DATASETS = []

    # Films of NAME_normal_train added to each training epoch as negatives, as a share of the films with findings.
    cfg.CXR.NORMAL_RATIO = 0.0

    # Train with weights that carry no card and are no known zoo file; the weights report says so.
    cfg.CXR.WEIGHTS_UNCHECKED = False

    # Length of the schedule in epochs of the resampled training set; 0 keeps SOLVER.MAX_ITER and SOLVER.STEPS.
    cfg.CXR.EPOCHS = 0

    # Epochs at which the learning rate drops, used when EPOCHS > 0.
    cfg.CXR.STEP_EPOCHS = []
