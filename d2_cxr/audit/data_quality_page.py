"""data_quality.html: what became of every file of a set, in one page that opens anywhere.

It holds no header text and no time: two equal runs write the same page.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import cv2

from d2_cxr import artifacts
from d2_cxr.datasets import manifest
from d2_cxr.drawing import encode_png
from d2_cxr.image_name import png_name

_CENSUS = {
    "transfer_syntax": "Transfer syntax",
    "photometric": "Photometric interpretation",
    "bits_stored": "Bits stored",
    "signed": "Signed (1)",
    "spacing_tag": "Pixel spacing from",
    "rescale": "Rescale slope/intercept",
}
_THUMB = 160  # pixels
_MOST_SHOWN = 60  # odd images with a picture; all of them stand in the table
_LISTED = 200
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c2733 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; margin: .6rem 0 } td, th { padding: .2rem .9rem .2rem 0; text-align: left;
vertical-align: top; border-bottom: 1px solid #e3e7ec; overflow-wrap: break-word } .n { text-align: right }
.wide { overflow-x: auto } .census { display: flex; flex-wrap: wrap; gap: 0 2.5rem } .census h3 { font-size: .95rem;
margin: .8rem 0 0 } .images { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; width: 160px; font-size:
12px } figure img { width: 160px; height: 160px; background: #000 } figure
.refused { object-fit: contain; outline: 3px solid #d9a59a } .none { width: 160px; height: 2.2rem; background:
#f3d9d4; display: grid; place-items: center } .bad { color: #a4321f } .quiet { color: #5c6b7a }
"""


def write(output: Path, description: Mapping, rows: Sequence[Mapping], left_out: Mapping[str, str], more="") -> None:
    """Write the page of a set.

    Args:
        output: the set's folder, which holds its PNGs.
        description: what dataset.json will say.
        rows: of the manifest.
        left_out: image -> why it is not among the unlabeled ones.
        more: HTML of further sections.
    """
    sections = [
        _head(description, rows),
        _notes(description),
        _parts(description),
        _census(rows),
        _pictures(output, rows),
        _list("Labels without images", "outcome", "missing", rows),
        _left_out(left_out),
        more,
        _all_wrong(rows),
    ]
    title = escape(f"Intake of {description['name']}")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    page = f'<!doctype html><html lang="en"><head>{head}<title>{title}</title><style>{_STYLE}</style></head><body>'
    artifacts.write_text(output / "data_quality.html", page + f"<h1>{title}</h1>" + "".join(sections) + "</body></html>\n")


def shortcut_section(audit: Mapping | None) -> str:
    """Return the section about header fields that give findings away (`shortcuts.header_shortcut_audit`)."""
    if audit is None:
        return ""
    text = (
        "From header fields alone (transfer syntax, polarity, bits, size, spacing, window, rescale), a cross-validated "
        f"logistic regression tells images with findings from images without with AUROC {audit['auroc']:.2f} (95 % "
        f"{audit['low']:.2f} to {audit['high']:.2f}; {audit['images']} images, {audit['with_finding']} with findings). "
        "0.5 is chance; clearly more means that an image-level result on this set may rest on how images were made."
    )
    return f"<h2>What the header gives away</h2><p>{escape(text)}</p>"


def copies_section(output: Path, copies: Sequence[Mapping], homes: Mapping[str, str]) -> str:
    """Return the section about prepared images that are one image, as it seems (`similarity.find_in_set`).

    Args:
        output: the set's folder.
        copies: pairs, the most alike first.
        homes: image -> the lists in which it stands.
    """
    if not copies:
        return ""
    figures = []
    for copy in copies[:_MOST_SHOWN]:
        for image in (copy["image_name"], copy["other_image_name"]):
            text = f"{image} ({homes.get(image, 'no list')}); {copy['how']}, {copy['correlation']}"
            picture = thumbnail(output / "images" / png_name(image))
            figures.append(f"<figure>{picture}<figcaption>{escape(text)}</figcaption></figure>")
    shown = f" The first {_MOST_SHOWN}; near_duplicates.csv lists them all." if len(copies) > _MOST_SHOWN else ""
    text = (
        "Pairs that are one image, as it seems, side by side: encoded or resized anew, cropped, or mirrored; with the "
        "correlation of their fine structure. Where one is learned from, the other is no test: learning from it is "
        f"refused, unless --allow FILE names it.{shown}"
    )
    title = f"Near copies ({len(copies)} pair{'s' if len(copies) > 1 else ''})"
    return f'<h2>{title}</h2><p>{text}</p><div class="images">{"".join(figures)}</div>'


def _head(description: Mapping, rows: Sequence[Mapping]) -> str:
    counts = Counter(row["outcome"] for row in rows)
    rules = description["preprocess"]
    text = (
        f"{rules['size']} × {rules['size']} pixels, {rules['resize']}, equalize {rules['equalize']}, window "
        f"{rules['window']}; fusion {description['fusion']['rule']}; {len(description['class_names'])} classes."
    )
    table = [(outcome, counts[outcome], meaning) for outcome, meaning in manifest.OUTCOMES.items()]
    return f"<p>{escape(text)}</p>" + _table(("outcome", "files", ""), table)


def _notes(description: Mapping) -> str:
    notes = list(description["notes"])
    notes += [f"annotations: {count} × {kind}" for kind, count in description["annotation_problems"].items() if count]
    return "<h2>To know</h2><ul>" + "".join(f"<li>{escape(note)}" for note in notes) + "</ul>" if notes else ""


def _parts(description: Mapping) -> str:
    counts, rows = description["counts"], []
    for split in ("published", "stratified"):
        for part in ("train", "val", "test"):
            if f"{split}_{part}" in counts:
                images, negative = counts[f"{split}_{part}"], counts[f"{split}_negative_{part}"]
                rows.append((f"{split} {part}", images, counts[f"{split}_{part}_boxes"], negative))
    if "official_test" in counts:
        rows.append(("official test", counts["official_test"], counts["official_test_boxes"], ""))
    name = escape(f"{description['name']}_unlabeled")
    text = f"<p>Images without annotations (<code>{name}</code>): {counts['unlabeled']}.</p>"
    header = ("part", "images with findings", "boxes", "images without findings")
    return "<h2>Parts</h2>" + (_table(header, rows) if rows else "") + text


def _census(rows: Sequence[Mapping]) -> str:
    """Count what kinds of images there are, and how sizes and windows are spread."""
    prepared = [row for row in rows if row["outcome"] == "prepared"]
    blocks = []
    for column, title in _CENSUS.items():
        counts = Counter(row[column] or "absent" for row in prepared).most_common(12)
        blocks.append(f"<div><h3>{title}</h3>" + _table((), counts) + "</div>")
    windows = Counter(
        "VOI LUT" if row["window"] == "VOI LUT" else "yes" if row["window"] else "absent" for row in prepared
    )
    blocks.append("<div><h3>Window</h3>" + _table((), windows.most_common()) + "</div>")
    sizes = Counter(f"{row['columns']} × {row['rows']}" for row in prepared).most_common(8)
    blocks.append("<div><h3>Commonest width × height</h3>" + _table((), sizes) + "</div>")
    return '<h2>Kinds of images</h2><div class="census">' + "".join(blocks) + "</div>"


def _pictures(output: Path, rows: Sequence[Mapping]) -> str:
    """Show what was refused, where there is anything to see, and what was prepared but odd."""
    refused = [row for row in rows if row["outcome"] in ("refused", "quarantined")]
    odd = [row for row in rows if row["outcome"] == "prepared" and row["reason"]]
    if not refused and not odd:
        return ""
    figures = [_figure(row, _preview(output, row)) for row in refused[:_MOST_SHOWN]]
    for row in odd[:_MOST_SHOWN]:
        figures.append(_figure(row, thumbnail(output / "images" / png_name(row["image_name"]))))
    return (
        f'<h2>Refused and odd images ({len(refused)} and {len(odd)})</h2><div class="images">{"".join(figures)}</div>'
    )


def _preview(output: Path, row: Mapping) -> str:
    path = output / "refused" / png_name(row["image_name"])
    if not path.is_file():
        return f'<div class="none">{escape(row["outcome"])}, nothing to see</div>'
    return f'<img class="refused" alt="refused" src="{_data_url(path.read_bytes())}">'


def thumbnail(path: Path) -> str:
    """Return an <img> that carries a small copy of an image."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        return '<div class="none">missing</div>'
    small = cv2.resize(image, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    return f'<img alt="" src="{_data_url(encode_png(small))}">'


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _figure(row: Mapping, picture: str) -> str:
    caption = f"<b>{escape(row['image_name'])}</b><br>{escape(row['reason'])}"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _list(title: str, column: str, value: str, rows: Sequence[Mapping]) -> str:
    images = [row["image_name"] for row in rows if row[column] == value]
    if not images:
        return ""
    shown = ", ".join(escape(image) for image in images[:_LISTED]) + (" …" if len(images) > _LISTED else "")
    return f"<h2>{title} ({len(images)})</h2><p class=quiet>{shown}</p>"


def _left_out(left_out: Mapping[str, str]) -> str:
    if not left_out:
        return ""
    text = f"<h2>Unlabeled images left out ({len(left_out)})</h2><p>They would give images of val or test away.</p>"
    return text + _table(("image", "why"), list(left_out.items())[:_LISTED])


def _all_wrong(rows: Sequence[Mapping]) -> str:
    wrong = [row for row in rows if row["outcome"] != "missing" and (row["outcome"] != "prepared" or row["reason"])]
    if not wrong:
        return ""
    table = [(row["file"], row["outcome"], row["reason"]) for row in wrong]
    return f"<h2>Every file that is not plain ({len(wrong)})</h2>" + _table(("file", "outcome", "reason"), table)


def _table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    head = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>" if header else ""
    return f'<div class="wide"><table>{head}{"".join(map(_row, rows))}</table></div>'


def _row(cells: Sequence) -> str:
    kinds = (' class="n"' if isinstance(cell, int) else "" for cell in cells)
    return (
        "<tr>"
        + "".join(f"<td{kind}>{escape(str(cell))}</td>" for kind, cell in zip(kinds, cells, strict=True))
        + "</tr>"
    )
