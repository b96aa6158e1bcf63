"""HTML pages from one frame, one table macro and one stylesheet (d2_cxr/audit/templates).

A page is one file that opens anywhere: style and pictures are inside, and nothing is loaded from elsewhere. A template
extends base.html.j2, fills its blocks `title` and `content` (and `style`, where it must), and takes tables and figures
from macros.html.j2. What a template prints is escaped; only markup that this package made, such as an SVG chart, is
marked `| safe`.
"""

from __future__ import annotations

import base64
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2
    import numpy as np

from d2_cxr import artifacts

TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: str | os.PathLike, template: str, folder: str | Path | None = None, **values: object) -> None:
    """Write the page of a template.

    Args:
        path: the HTML file to write.
        template: file name of the template.
        folder: of the template; None: this package's templates. Either may extend this package's base.html.j2.
        values: what the template prints; a missing one is an error.
    """
    artifacts.write_text(path, _environment(folder).get_template(template).render(**values))


@functools.cache
def _environment(folder: str | Path | None) -> jinja2.Environment:
    """Return what compiles the templates: once for all pages of a process, which takes longer than to fill them."""
    import jinja2  # takes a while to import

    folders = [str(path) for path in (folder, TEMPLATES) if path is not None]
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )


def data_url(png: bytes) -> str:
    """Return a PNG file's bytes as the source of an <img>."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def jpeg_url(pixels: np.ndarray) -> str:
    """Return gray pixels, uint8 (H, W), as the source of an <img>: a JPEG, a quarter of a PNG's size."""
    import cv2  # pages without pictures do without

    done, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert done, pixels.shape
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"
