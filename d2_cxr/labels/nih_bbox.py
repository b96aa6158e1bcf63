"""NIH ChestX-ray14's boxes, `BBox_List_2017.csv`: 984 boxes on 880 images in eight classes, drawn by one radiologist.

Wang et al., *ChestX-ray8*, CVPR 2017, https://arxiv.org/abs/1705.02315. Boxes are x, y, width, height in pixels of the
1024 x 1024 image. The header splits into more cells than a row has (`Bbox [x,y,w,h],,,`), so the columns are called
`Bbox [x`, `y`, `w`, `h]`. Only given positives are boxed: a class without a box is not absent from the image. Patients
come from the `Patient ID` column of `Data_Entry_2017.csv`, given as the table of patients.
"""

from __future__ import annotations

CLASS_NAMES = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltrate",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
EXTRA_CLASS_NAMES: tuple[str, ...] = ()
ALIASES = {"Infiltration": "Infiltrate", "Pleural effusion": "Effusion"}
