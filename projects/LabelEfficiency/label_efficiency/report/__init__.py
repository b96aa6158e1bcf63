"""From a study's folder to the paper's tables and figures, label savings, and one self-contained HTML page."""

from d2_cxr.projects.label_efficiency.report.build import build_report

__all__ = ["build_report"]
