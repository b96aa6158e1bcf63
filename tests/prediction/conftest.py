"""Predictions start many workers: here they are forked from one process that has imported what they need."""

from forked_worker import forked_workers  # noqa: F401
