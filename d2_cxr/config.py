"""The configuration keys that are ours: all under `CXR`, but for `MODEL.TIMM`, which belongs to the model."""

from __future__ import annotations

# Keys of earlier versions -> their names today. Configs of old weights are read with them.
RENAMED_KEYS = {"CXR.NORMAL_RATIO": "CXR.NEGATIVE_RATIO", "CXR.TEST_NORMALS": "CXR.TEST_NEGATIVES"}


def add_cxr_config(cfg) -> None:
    """Add the `CXR` keys, with defaults that reproduce plain Detectron2, to a Detectron2 CfgNode in place."""
    node = type(cfg)  # detectron2.config.CfgNode, without importing Detectron2 here
    cfg.CXR = node()
    for old, new in RENAMED_KEYS.items():
        cfg.register_renamed_key(old, new)

    # Network of timm under `MODEL.BACKBONE.NAME build_timm_fpn_backbone`, e.g. "tf_efficientnet_lite0".
    cfg.MODEL.TIMM = node()
    cfg.MODEL.TIMM.NAME = ""

    # Own prepared sets to register before anything is loaded: [[name, folder of the prepared set], ...].
    cfg.CXR.DATASETS = []

    # Negative images (NAME_negative_train) per image with findings: 0.5 makes every third image a negative one. Drawn
    # anew each epoch; repeat factors are computed without them.
    cfg.CXR.NEGATIVE_RATIO = 0.0

    # What training adds to INPUT's resizing and flip: "off"; "gray" changes gamma, contrast and brightness, "geometry"
    # scale (0.8 to 1.25), aspect and place (10 % each) in the frame; "light" is both. Seeded as the flip is.
    cfg.CXR.AUGMENTATION = "off"

    # "fixed" takes MODEL.ANCHOR_GENERATOR as it is; "auto" fits its sizes and ratios to the boxes of the training
    # images, one size for each level, and writes them there: into the run's config.yaml and the card.
    cfg.CXR.ANCHORS = "fixed"

    # Teacher-student training on unlabeled images: data-set names of the pool, never of val or test; [] means none.
    cfg.CXR.TEACHER = node()
    cfg.CXR.TEACHER.POOL = []

    # Part of the iterations on labels alone, before the teacher's boxes count.
    cfg.CXR.TEACHER.BURN_IN = 0.3

    # Pool images in a step for each labeled one.
    cfg.CXR.TEACHER.RATIO = 1.0

    # Weight of the losses on the teacher's boxes (RPN objectness and classification; boxes are not regressed to them).
    cfg.CXR.TEACHER.WEIGHT = 1.0

    # Score above which a teacher's box counts: one for all classes or one for each; [] takes each class's from
    # validation after the burn-in.
    cfg.CXR.TEACHER.THRESHOLDS = [0.7]

    # Boxes scored above this and below the threshold are uncertain: RoIs on them are learned neither as their class nor
    # as background. 1.0 makes everything below the threshold background.
    cfg.CXR.TEACHER.UNCERTAIN = 0.2

    # Part of the teacher that stays at each step, at most; early on its memory is a tenth of the iterations so far.
    cfg.CXR.TEACHER.EMA = 0.9996

    # Negative controls: "shuffled" gives the teacher's boxes to other images; "labeled" takes labeled images with their
    # own boxes in place of the pool (as many steps and images, nothing unlabeled).
    cfg.CXR.TEACHER.CONTROL = ""

    # Evaluate on NAME_negative_test in addition to NAME_test: false positives on negative images, image-level AUROC.
    cfg.CXR.TEST_NEGATIVES = True

    # Images of each set whose pixels are compared with the manifest before training; -1 compares all.
    cfg.CXR.CHECK_IMAGES = 16

    # Train with weights that have no card and are no known zoo file; the weights report says so.
    cfg.CXR.WEIGHTS_UNCHECKED = False

    # Length of the schedule in epochs of the resampled training set; 0 keeps SOLVER.MAX_ITER and SOLVER.STEPS.
    cfg.CXR.EPOCHS = 0

    # Epochs at which the learning rate drops, used when EPOCHS > 0.
    cfg.CXR.STEP_EPOCHS = []

    # "SGD" is Detectron2's; "AdamW" takes BASE_LR, WEIGHT_DECAY and CLIP_GRADIENTS from SOLVER and has no momentum key.
    cfg.CXR.OPTIMIZER = "SGD"

    # Number format of training: "off" (float32), "bf16", "auto" (bf16 where a probe of this machine finds it faster).
    # SOLVER.AMP.ENABLED remains Detectron2's float16 for GPUs.
    cfg.CXR.AMP = "off"

    # Convolutions on channels-last tensors: the same numbers up to rounding, faster on CPUs and tensor cores.
    cfg.CXR.CHANNELS_LAST = False

    # TF32 matrix products on GPUs that have them.
    cfg.CXR.TF32 = False

    # PyTorch's threads for a process; 0 leaves them as they are.
    cfg.CXR.NUM_THREADS = 0

    # Set that TEST.EVAL_PERIOD evaluates during training; "" is NAME_val of the training set's split.
    cfg.CXR.VAL_DATASET = ""

    # Evaluate that set after the last iteration too; its thresholds go into the card of the weights.
    cfg.CXR.VAL_AT_END = True

    # Also the loss on the validation set at each evaluation, as val_* in metrics.json.
    cfg.CXR.VAL_LOSS = False

    # Stop after this many evaluations without a better validation mAP; 0 never stops early.
    cfg.CXR.PATIENCE = 0

    # Which weights are tested at the end: "last", or "best" on validation.
    cfg.CXR.TEST_WEIGHTS = "last"

    # Bootstrap resamples of an evaluation.
    cfg.CXR.RESAMPLES = 1000

    # Periodic checkpoints kept; the newest serves --resume.
    cfg.CXR.KEEP_CHECKPOINTS = 2
