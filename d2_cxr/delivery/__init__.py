"""Findings on the DICOM: a structured report, a presentation state, a key image, and corrected reports read back.

    from d2_cxr.delivery import Algorithm, ScoredBox, read_source, structured_report
    source = read_source("image.dcm")
    report = structured_report(source, [ScoredBox("Cardiomegaly", 0.9, (300, 800, 900, 1200))], {}, algorithm)

Needs highdicom (`pip install d2_cxr[delivery]`), and nothing of training.
"""




from d2_cxr.delivery.source import Algorithm, DeliveryError, ScoredBox, Source, read_source
from d2_cxr.delivery.structured_report import structured_report

__all__ = [
    "Algorithm",
    "DeliveryError",
    "ScoredBox",
    "Source",
    "key_image",
    "presentation_state",
    "read_reports",
    "read_source",
    "structured_report",
]
