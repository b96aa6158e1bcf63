"""Findings on the DICOM: a structured report, a presentation state, a key image, and corrected reports read back.

    from d2_cxr.delivery.source import Algorithm, ScoredBox, read_source, to_bytes
    from d2_cxr.delivery.structured_report import structured_report
    boxes = [ScoredBox("Cardiomegaly", 0.9, (300, 800, 900, 1200))]
    algorithm = Algorithm("mine", "1.0", artifacts.sha256_file("model_final.pth"))
    report = structured_report(read_source("image.dcm"), boxes, {"Cardiomegaly": 0.3}, algorithm)
    artifacts.write_bytes("report.dcm", to_bytes(report))

Writing needs highdicom (`pip install d2_cxr[delivery]`), and nothing of training.
"""
