"""Synthetic chest images with known truth, to test software; results on them do not transfer to radiographs.

`make_phantoms` writes a set in the form of an archive (DICOM, a CSV of three readers), `render_image` returns one
image, `dicom_writer.wrap` stores any pixels as DICOM.
"""

from d2_cxr.projects.phantom_cxr.image import RenderedImage, render_image
from d2_cxr.projects.phantom_cxr.make import make_phantoms

__all__ = ["RenderedImage", "make_phantoms", "render_image"]
