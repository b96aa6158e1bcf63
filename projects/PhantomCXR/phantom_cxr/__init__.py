"""Synthetic chest films with known truth: they test software and say nothing about radiographs.

`make_phantoms` writes a set as it would come from an archive (DICOM, three readers' CSV), `render_film` gives one film,
`dicom_writer.wrap` stores any pixels as DICOM.
"""

from d2_cxr.projects.phantom_cxr.film import RenderedFilm, render_film
from d2_cxr.projects.phantom_cxr.make import make_phantoms

__all__ = ["RenderedFilm", "make_phantoms", "render_film"]
