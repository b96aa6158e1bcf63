"""Synthetic chest images with known truth: they test software and say nothing about radiographs.

`make_phantoms` writes a set as it would come from an archive (DICOM, three readers' CSV), `render_image` gives one
image, `dicom_writer.wrap` stores any pixels as DICOM.
"""

from d2_cxr.projects.phantom_cxr.image import RenderedImage, render_image
from d2_cxr.projects.phantom_cxr.make import make_phantoms

__all__ = ["RenderedImage", "make_phantoms", "render_image"]
