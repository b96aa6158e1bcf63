"""The keys of a study file with the shape of every value, and the old spellings that are still read."""

from __future__ import annotations

from d2_cxr.projects.label_efficiency.arms import ARM_KINDS, POOL_KEYS
from d2_cxr.projects.label_efficiency.study_schema import (
    FLAG,
    OPTION,
    Keys,
    ListOf,
    Named,
    Value,
    choice,
    number,
    pattern,
    text,
    whole,
)

from d2_cxr.evaluation.metrics import OVERALL

_PATH = text("a path in quotes")
_CONFIG = pattern(r"[\w./+-]+\.ya?ml", "a YAML file below the repository, e.g. configs/quick_schedules/demo_R_18.yaml")
_SEED = whole(0, 2**31 - 2, 0)
_FRACTION = Value(
    lambda value: type(value) is int and value in range(10, 101, 10),
    "10, 20, ... 90 or 100, the percentage of the training images with labels",
)
_FRACTIONS = ListOf(_FRACTION, "a list of label fractions in percent, e.g. [10, 100]")
_OPTIONS = Named(OPTION, "options as KEY: VALUE", name=r"[A-Za-z_][\w.]*")
_METRIC = Value(
    lambda value: isinstance(value, str) and value in OVERALL, "the name of a metric, e.g. mAP, AP50 or AP40_vinbigdata"
)
_CLASSES = ListOf(text("a class name"), "a list of class names, e.g. [Cardiomegaly, Nodule/Mass]")
_DIGEST = pattern(r"[0-9a-fA-F]{8,64}", "8 to 64 of its digits, in quotes")
_RGB = ListOf(number(-1e4, 1e4, 123.675), "three numbers, red, green and blue from 0 to 255", least=3)

_PHANTOMS = Keys(
    {
        "num_images": whole(1, 10**6, 1000),
        "size": whole(32, 4096, 256),
        "seed": _SEED,
        "finding_share": number(0, 1, 0.75),
        "readers": whole(1, 100, 3),
    },
    required=("num_images",),
)
_PREPARE = Keys(
    {
        "size": whole(16, 4096, 512),
        "resize": text("squash or letterbox"),  # these three: checked by Preprocess, which knows their values
        "equalize": text("histogram, stretch or none"),
        "window": text("file or full"),
        "classes": Value(
            lambda value: (
                isinstance(value, str)
                or (isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value))
            ),
            "card, extended, from-csv, a file, or a list of class names",
        ),
        "fusion": pattern(r"mean|none|majority:\d+", "mean, none or majority:K"),
        "annotation_format": choice("csv", "coco", "yolo", "voc", "cvat", "label_studio", "labelme"),
        "negative_names": ListOf(text("a name in the table"), "names of rows without a finding", least=0),
        "split": choice("stratified", "given", "all-train", "all-test"),
        "split_by": text("a column of the table"),
        "findings_only": FLAG,
        "order_csv": _PATH,
        "array": FLAG,
        "strict": FLAG,
        "jobs": whole(1, 1024, 2),
        "limit_s": number(1, 86400, 60),
    }
)
_DATA = Keys(
    {
        "name": pattern(r"[A-Za-z][A-Za-z0-9_]*", "a word of letters, digits and _"),
        "prefix": pattern(r"[A-Za-z][A-Za-z0-9_]*", "the beginning of the data-set names, e.g. vindr_cxr_stratified"),
        "root": _PATH,
        "phantoms": _PHANTOMS,
        "dicom_dir": _PATH,
        "annotations": _PATH,
        "patients": _PATH,
        "prepare": _PREPARE,
        "split_seeds": FLAG,
    },
    required=("name",),
)
_WEIGHTS = Named(
    Keys(
        {"file": text("a path or a URL"), "sha256": _DIGEST, "timm": text("a model name of timm")}
        | {"pixel_mean": _RGB, "pixel_std": _RGB},
        required=("file",),
    ),
    "weights made elsewhere, NAME: {file: PATH or URL}",
)
_PRETRAINING = Named(
    Keys(
        {
            "config": _CONFIG,
            **POOL_KEYS,
            "options": _OPTIONS,
            "method": choice("simclr", "supervised"),
            "init_from": text("a name under weights"),
            "detector": _PATH,
        },
        required=("config",),
    ),
    "pretrainings, NAME: {config: FILE, pool: all}",
)
_ARMS = Named(
    Keys(
        {
            "config": _CONFIG,
            "weights": text("a name under pretraining or weights, permuted(NAME), or a file"),
            "options": _OPTIONS,
            "label_fractions": _FRACTIONS,
            "iterations": whole(1, 10**9, 1000),
        }
        | {key: kind.shape for key, kind in ARM_KINDS.items()},
        required=("config",),
    ),
    "arms, NAME: {config: FILE}",
)
STUDY = Keys(
    {
        "study": text("a word for titles"),
        "title": text("a line of text"),
        "output": _PATH,
        "notes": ListOf(text("a line of text"), "a list of lines", least=0),
        "data": _DATA,
        "weights": _WEIGHTS,
        "pretraining": _PRETRAINING,
        "arms": _ARMS,
        "labels": Keys(
            {"label_fractions": _FRACTIONS, "subsets": choice("nested", "published")}, required=("label_fractions",)
        ),
        "seeds": ListOf(_SEED, "a list of whole numbers, e.g. [0, 1, 2]"),
        "shared_options": _OPTIONS,
        "evaluation": Keys({"resamples": whole(1, 10**5, 1000), "val_selected": FLAG}),
        "primary_endpoint": Keys(
            {
                "metric": _METRIC,
                "classes": _CLASSES,
                "reference": text("the name of an arm"),
                "controls": ListOf(text("the name of an arm"), "a list of arms", least=0),
            }
        ),
        "criterion": Keys({"metric": _METRIC, "classes": _CLASSES, "margin": number(-1, 1, 0.15)}, ("margin",)),
        "subgroups": pattern(r".+:[^:/]+", "CSV:COLUMN, a table and its column, e.g. images.csv:view"),
        "tuning": Keys(
            {
                "option": choice("SOLVER.BASE_LR"),
                "values": ListOf(number(0, 10, 0.001), "a list of two learning rates or more", least=2),
                "label_fraction": _FRACTION,
                "seed": _SEED,
            },
            required=("option", "values", "label_fraction"),
        ),
        "resources": Keys(
            {
                "jobs": whole(1, 1024, 2),
                "threads": whole(1, 1024, 1),
                "slurm": Named(OPTION, "submitit's parameters, e.g. {mem_gb: 32}"),
            }
        ),
    },
    required=("study", "output", "data", "arms", "labels", "seeds", "shared_options"),
)

# Old spelling -> today's, by the place in the file; "*" is any name.
RENAMED = {
    (): {"endpoint": "primary_endpoint", "same_ground": "shared_options", "groups": "subgroups"},
    ("labels",): {"percent": "label_fractions", "fractions": "subsets"},
    ("tuning",): {"percent": "label_fraction"},
    ("arms", "*"): {"percent": "label_fractions", "longer": "compute_matched"},
}
