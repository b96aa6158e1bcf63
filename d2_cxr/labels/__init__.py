"""Readers' boxes: read from any table, fused, split, counted, audited; and the pages that show it."""
