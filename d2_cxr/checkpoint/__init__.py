"""Checkpoints: reading without pickle, conversion, cards, verification."""
