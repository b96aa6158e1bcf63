"""Preparations start many workers: here they are forked from one process that has imported what they need."""

import pytest
from forked_worker import ForkedWorker

from d2_cxr.preparation import workers


@pytest.fixture(autouse=True)
def forked_workers(request, monkeypatch):
    """Replace the start of a worker, but for the tests of that start."""
    if request.path.name != "test_workers.py":
        monkeypatch.setattr(workers, "_start_process", ForkedWorker)
