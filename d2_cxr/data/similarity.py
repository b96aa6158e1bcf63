"""How alike two prepared films are: a perceptual hash to find candidates, pixels to decide."""

from __future__ import annotations

import cv2
import numpy as np

_SIDE = 32  # pixels of the image that is hashed
_KEPT = 8  # lowest frequencies of each axis


def perceptual_hash(image: np.ndarray) -> str:
    """Return 64 bits as 16 hex digits: which of the lowest 8 x 8 cosine frequencies exceed their median.

    Args:
        image: (H, W) uint8.

    Zauner, *Implementation and Benchmarking of Perceptual Image Hash Functions* (2010), section 3.2.1. Resizing and
    encoding again change a few bits, another film about half of them.
    """
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    frequencies = cv2.dct(small)[:_KEPT, :_KEPT].ravel()
    bits = frequencies > np.median(frequencies[1:])  # the mean grey is no feature
    return np.packbits(bits).tobytes().hex()
