"""RSNA Pneumonia Detection Challenge 2018: 26,684 images of NIH ChestX-ray14 with boxes of lung opacities.

Shih et al., *Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations of
Possible Pneumonia*, Radiology: AI 1(1):e180041 (2019). `stage_2_train_labels.csv` has one box a row (x, y, width,
height in pixels of the 1024 x 1024 image) and Target 0 with empty cells where no opacity was drawn. Target 0 means
*no opacity*, not a negative image. `patientId` names the image. The images are NIH's: look for shared images before
mixing this set with NIH or ChestX-Det.
"""

from __future__ import annotations

CLASS_NAMES = ("Lung Opacity",)
EXTRA_CLASS_NAMES: tuple[str, ...] = ()
ALIASES: dict[str, str] = {"Pneumonia": "Lung Opacity"}
