"""Charts of the report: where a point lies, and what it says under the pointer."""

import re

from d2_cxr.projects.label_efficiency.report import figures

POINT = re.compile(r'<circle[^>]*cx="([\d.]+)"[^>]*><title>(.*?)</title>')


def point(label_fraction: int, mean: float) -> dict:
    return {"label_fraction": label_fraction, "mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def test_arms_of_one_label_fraction_lie_beside_one_another_and_keep_its_number():
    arms = {"random": [point(10, 0.3), point(30, 0.5)], "a": [point(10, 0.4)], "b": [point(10, 0.4)]}
    found = {title.split(":")[0]: float(x) for x, title in POINT.findall(figures.learning_curves(arms, "AP50", {}))}
    assert found["random, 10 % of the labels"] < found["a, 10 % of the labels"] < found["b, 10 % of the labels"]
    assert found["b, 10 % of the labels"] < found["random, 30 % of the labels"]
