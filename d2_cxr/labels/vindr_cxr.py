"""VinDr-CXR: 18,000 adult PA images of two hospitals in Vietnam with radiologists' boxes.

Nguyen et al., *VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations*, Sci Data 9:429 (2022),
https://arxiv.org/abs/2012.15029; PhysioNet doi 10.13026/3akn-b287. Three of seventeen radiologists read each of the
15,000 training images (45,000 readings); the 3,000 images of the official test set carry the consensus of five.
Research use under a data use agreement that forbids redistribution: no annotation row is in this repository.

Two releases of the training labels: Kaggle's (`train.csv`, the 14 names below) and PhysioNet's (22 local names, of
which the 14 are a part). There are no patient ids, so every split is by image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from d2_cxr import artifacts

CLASS_NAMES = (  # class_id order of the Kaggle file; its id 14 is "No finding"
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
)

EXTRA_CLASS_NAMES = (  # local names of the PhysioNet release beyond the 14; read on request
    "Clavicle fracture",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "Lung cavity",
    "Lung cyst",
    "Mediastinal shift",
    "Rib fracture",
)

ALIASES = {
    "Interstitial lung disease": "ILD",
    "Interstitial lung disease (ILD)": "ILD",
    "Oedema": "Edema",
    "Enlarged pulmonary artery": "Enlarged PA",
    "Aorta enlargement": "Aortic enlargement",
    "Pulmonary opacity": "Lung Opacity",
}

# sha256 of the image ids, in order, one per line: the images of the published split and no others (docs/paper.md).
FINGERPRINTS: dict[str, str] = {
    "train": "7cb5077388997c89cc35c5a6de539dbc224b8ddfbb2f51abe7cae0d10cb1e65e",
    "val": "dc274b084383bd6279f7d7c69110af02f6aa5c3531699e0f3c64bdc6f4623571",
    "test": "3fa1bdb059162ad41aacf7b507bd86fa41135cf0b8d6a62f257c1338737e59f1",
}


def is_published(split: Mapping[str, Sequence[str]]) -> bool:
    """Whether train, val and test are the published split: the same image ids in the same order."""
    return all(matches_published(part, split[part]) for part in FINGERPRINTS)


def matches_published(part: str, image_names: Sequence[str]) -> bool:
    """Whether these image names, in this order, are the part "train", "val" or "test" of the published split."""
    return artifacts.sha256_lines(image_names) == FINGERPRINTS[part]
