"""Findings on images: a detector's file and images in, `findings.json` and its relatives out; `predictor.Predictor`."""
