"""What the paper printed, for comparison with our runs: another data set, another scale.

Bencevic, Habijan, Galic, Pizurica, "Self-supervised Learning as a Means to Reduce the Need for Labeled Data in Medical
Image Analysis", https://arxiv.org/abs/2206.00344. All scores are fractions of 1.
"""

from __future__ import annotations

PAPER = "Benčević et al., arXiv 2206.00344, VinDr-CXR, 879 test images"

# Table I. AR and AR small are class-agnostic there (COCO evaluation with useCats = 0), which is why AR is three times
# mAP; "mean IoU" and its population deviation are the "Model" row of Table II, printed for each label fraction.
TABLE_1_COLUMNS = ("mAP", "mAP50", "mAP small", "AR", "AR small", "mean IoU", "IoU σ", "training images")
TABLE_1 = (
    # percent with labels, row name, then the columns above
    (100, "Baseline", (0.129, 0.278, 0.021, 0.412, 0.154, 0.565, 0.309, 3075)),
    (90, "SSL 10 %", (0.142, 0.284, 0.026, 0.413, 0.156, 0.566, 0.309, 2767)),
    (80, "SSL 20 %", (0.139, 0.292, 0.020, 0.412, 0.158, 0.565, 0.308, 2460)),
    (70, "SSL 30 %", (0.130, 0.268, 0.014, 0.402, 0.146, 0.555, 0.312, 2152)),
    (60, "SSL 40 %", (0.123, 0.272, 0.014, 0.394, 0.131, 0.545, 0.316, 1845)),
    (50, "SSL 50 %", (0.109, 0.248, 0.011, 0.387, 0.131, 0.536, 0.319, 1537)),
    (40, "SSL 60 %", (0.104, 0.230, 0.011, 0.378, 0.120, 0.527, 0.324, 1230)),
    (30, "SSL 70 %", (0.095, 0.202, 0.007, 0.363, 0.108, 0.507, 0.331, 922)),
    (20, "SSL 80 %", (0.081, 0.178, 0.006, 0.338, 0.089, 0.479, 0.336, 615)),
    (10, "SSL 90 %", (0.060, 0.135, 0.003, 0.303, 0.064, 0.438, 0.343, 307)),
)

# Table II, readers against readers on the test split. The text's R9, R10, R11 are R8, R9, R10 in the annotation file.
# The printed rows mix two definitions; the consistent ones were computed from the public annotation file.
TABLE_2 = (
    # readers, IoU mean, IoU population deviation, pairs of boxes, definition, what the row is
    ("R8–R9", 0.580, 0.284, 1137, "all pairs of boxes", "printed"),
    ("R8–R10", 0.674, 0.149, 943, "pairs with IoU > 0.2", "printed"),
    ("R8–R9", 0.689, 0.152, 951, "pairs with IoU > 0.2", "one definition for both"),
    ("R8–R10", 0.674, 0.149, 943, "pairs with IoU > 0.2", "one definition for both"),
)

# Figure 3: training images that contain a class, before and after balancing.
FIGURE_3 = (
    # class, original, expected under stochastic rounding, drawn by the paper (ceiling of every repeat factor)
    ("Aortic enlargement", 2178, 3064, 3782),
    ("Cardiomegaly", 1616, 2138, 2671),
    ("Pleural thickening", 1560, 2526, 3183),
    ("Pulmonary fibrosis", 1276, 2145, 2640),
    ("Lung Opacity", 1057, 1866, 2490),
    ("Other lesion", 885, 1521, 1977),
    ("Pleural effusion", 843, 1510, 1997),
    ("Nodule/Mass", 640, 1119, 1423),
    ("Infiltration", 491, 940, 1150),
    ("Calcification", 355, 701, 763),
    ("ILD", 314, 647, 679),
    ("Consolidation", 301, 685, 926),
    ("Atelectasis", 161, 462, 498),
    ("Pneumothorax", 81, 316, 324),
)

# Fused boxes per image under the paper's "random" split of the public annotation file.
PUBLISHED_DENSITY = {"train": 5.48, "val": 3.85, "test": 3.03}
PUBLISHED_DENSITY_COMMAND = "python tools/label_statistics.py train.csv --split published"
