"""Class name -> the code of a finding, and the codes that reports share.

A code of SNOMED CT or DICOM is used where pydicom's dictionary holds it with the class's own meaning; a code that is
nearly right would state another finding, so that everything else gets a private code of the scheme 99D2CXR. The code
meaning is the class name, because viewers print it.
"""

from __future__ import annotations

from pydicom.sr.coding import Code

from d2_cxr import artifacts
from d2_cxr.labels.class_names import name_key

PRIVATE = "99D2CXR"

# name_key of a class -> (value, scheme). 8186001 is in no dictionary at hand: pydicom's files "Cardiomegaly" under
# 287272002, whose meaning in SNOMED CT is an enlarged septal foramen of the heart.
_PUBLIC = {
    "calcification": ("18115005", "SCT"),
    "cardiomegaly": ("8186001", "SCT"),
    "edema": ("19242006", "SCT"),
    "infiltration": ("112121", "DCM"),
    "lungopacity": ("112001", "DCM"),
    "mass": ("4147007", "SCT"),
    "nodule": ("27925004", "SCT"),
    "pleuraleffusion": ("60046008", "SCT"),
    "pneumothorax": ("36118008", "SCT"),
}

SCORE = Code("score", PRIVATE, "Detection score")
OUTCOME = Code("outcome", PRIVATE, "Outcome of detection")
NOTHING = Code("none", PRIVATE, "No finding at or above its threshold")
AT_DETECTOR = Code("detector", PRIVATE, "At the detector, magnified against the patient")
ON_FILM = Code("film", PRIVATE, "On the scanned film, magnified against the patient")
ZERO_TO_ONE = Code("{0:1}", "UCUM", "range: 0:1")  # viewers print it behind the value, where "1" would be a digit
MILLIMETER = Code("mm", "UCUM", "mm")


def finding_code(class_name: str) -> Code:
    """Return the code of a class; its meaning is the class name, cut to the 64 characters of a code meaning."""
    key = name_key(class_name)
    is_plain = key != "" and key.isascii()  # a code value is read by systems of every character set
    own = key[:16] if is_plain else artifacts.sha256_bytes(class_name.encode())[:16]
    value, scheme = _PUBLIC.get(key, (own, PRIVATE))
    return Code(value, scheme, class_name[:64])
