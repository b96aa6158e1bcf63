"""Findings on the DICOM: a structured report, a presentation state, a key image, and corrected reports read back.

    from d2_cxr.delivery.source import Algorithm, ScoredBox, read_source, to_bytes
    from d2_cxr.delivery.structured_report import structured_report
    boxes = [ScoredBox("Cardiomegaly", 0.9, (300, 800, 900, 1200))]
    report = structured_report(read_source("image.dcm"), boxes, {"Cardiomegaly": 0.3}, Algorithm("mine", "1", "ab" * 32))

Writing needs highdicom (`pip install d2_cxr[delivery]`), and nothing of training.
"""
