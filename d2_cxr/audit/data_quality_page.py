"""data_quality.html: what became of every file of a set, in one page that opens anywhere.

It holds no header text and no time: two equal runs write the same page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2

from d2_cxr.audit import pages
from d2_cxr.datasets import manifest
from d2_cxr.drawing import encode_png
from d2_cxr.image_name import png_name
from d2_cxr.labels.annotations import PROBLEMS

FILE = "data_quality.html"
_CENSUS = {
    "transfer_syntax": "Transfer syntax",
    "photometric": "Photometric interpretation",
    "bits_stored": "Bits stored",
    "signed": "Signed (1)",
    "spacing_tag": "Pixel spacing from",
    "rescale": "Rescale slope/intercept",
    "view_position": "View position",
    "body_part": "Body part",
}
_PROBLEMS = {
    "boxes_left_out": "boxes left out, as the notes say",
    "boxes_outside": "boxes left out: wholly outside their image's file",
    "boxes_partly_outside": "boxes cut to their image",
    "not_frontal": "images whose header says that they show no frontal view",
    "not_chest": "images whose header says that they show no chest",
}
_THUMB = 160  # pixels
_MOST_SHOWN = 60  # pictures of a kind; the tables have all
_LISTED = 200


def write(
    output: Path,
    description: Mapping,
    rows: Sequence[Mapping],
    left_out: Mapping[str, str],
    duplicates: Sequence[Mapping] = (),
    homes: Mapping[str, str] | None = None,
    shortcut: Mapping | None = None,
) -> None:
    """Write the page of a set.

    Args:
        output: the set's folder, which holds its PNGs.
        description: content of dataset.json.
        rows: of the manifest.
        left_out: image -> why it is not among the unlabeled ones.
        duplicates: pairs of `near_duplicates.find_in_set`, the most alike first.
        homes: image -> the lists that hold it.
        shortcut: `header_shortcut_audit`, None where it could not be computed.
    """
    outcomes = Counter(row["outcome"] for row in rows)
    refused = [row for row in rows if row["outcome"] in ("refused", "quarantined")]
    odd = [row for row in rows if row["outcome"] == "prepared" and row["reason"]]
    missing = [row["image_name"] for row in rows if row["outcome"] == "missing"]
    counts = description["counts"]
    pages.write_page(
        output / FILE,
        "data_quality.html.j2",
        name=description["name"],
        rules=_rules(description),
        outcomes=[(outcome, outcomes[outcome], meaning) for outcome, meaning in manifest.OUTCOMES.items()],
        problems=[(kind, counts[kind], meaning) for kind, meaning in _PROBLEMS.items() if counts.get(kind)],
        notes=_notes(description),
        parts=_parts(counts),
        unlabeled=counts["unlabeled"],
        census=_census([row for row in rows if row["outcome"] == "prepared"]),
        pictures=_pictures(output, refused[:_MOST_SHOWN], odd[:_MOST_SHOWN]),
        refused=len(refused),
        odd=len(odd),
        missing=", ".join(missing[:_LISTED]) + (" …" if len(missing) > _LISTED else ""),
        missing_count=len(missing),
        left_out=list(left_out.items())[:_LISTED],
        left_out_count=len(left_out),
        duplicates=_duplicates(output, duplicates[:_MOST_SHOWN], homes or {}),
        duplicate_count=len(duplicates),
        shown_pairs=_MOST_SHOWN,
        shortcut=shortcut,
        files=_remarks(rows),
    )


def thumbnail(path: Path) -> str:
    """Return the data URL of a small copy of an image, "" where the file is missing."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        return ""
    return pages.data_url(encode_png(cv2.resize(image, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)))


def _rules(description: Mapping) -> str:
    rules = description["preprocess"]
    return (
        f"{rules['size']} × {rules['size']} pixels, {rules['resize']}, equalize {rules['equalize']}, window "
        f"{rules['window']}; fusion {description['fusion']['rule']}; {len(description['class_names'])} classes."
    )


def _notes(description: Mapping) -> list[str]:
    found = {kind: count for kind, count in description["annotation_problems"].items() if count}
    return [*description["notes"], *(f"labels: {count} × {kind} ({PROBLEMS[kind]})" for kind, count in found.items())]


def _parts(counts: Mapping) -> list[tuple]:
    rows: list[tuple] = []
    for split in ("published", "stratified"):
        for part in ("train", "val", "test"):
            if f"{split}_{part}" in counts:
                images, negative = counts[f"{split}_{part}"], counts[f"{split}_negative_{part}"]
                rows.append((f"{split} {part}", images, counts[f"{split}_{part}_boxes"], negative))
    if "official_test" in counts:
        rows.append(("official test", counts["official_test"], counts["official_test_boxes"], ""))
    return rows


def _census(prepared: Sequence[Mapping]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Count what kinds of images there are, and how sizes and windows are spread."""
    blocks = [
        (title, Counter(row[column] or "absent" for row in prepared).most_common(12))
        for column, title in _CENSUS.items()
    ]
    windows = Counter(
        "VOI LUT" if row["window"] == "VOI LUT" else "yes" if row["window"] else "absent" for row in prepared
    )
    sizes = Counter(f"{row['columns']} × {row['rows']}" for row in prepared)
    return [*blocks, ("Window", windows.most_common()), ("Commonest width × height", sizes.most_common(8))]


def _pictures(output: Path, refused: Sequence[Mapping], odd: Sequence[Mapping]) -> list[dict]:
    """Return refused files that can be shown, and prepared images with a note."""
    figures = []
    for row in refused:
        path = output / "refused" / png_name(row["image_name"])
        source = pages.data_url(path.read_bytes()) if path.is_file() else ""
        instead = f"{row['outcome']}, nothing to see"
        figures.append(
            {"source": source, "caption": _caption(row), "kind": "refused" if source else "", "instead": instead}
        )
    for row in odd:
        source = thumbnail(output / "images" / png_name(row["image_name"]))
        figures.append({"source": source, "caption": _caption(row)})
    return figures


def _caption(row: Mapping) -> str:
    return f"{row['image_name']}: {row['reason']}"


def _duplicates(output: Path, pairs: Sequence[Mapping], homes: Mapping[str, str]) -> list[dict]:
    figures = []
    for pair in pairs:
        for image in (pair["image_name"], pair["other_image_name"]):
            caption = f"{image} ({homes.get(image, 'no list')}); {pair['how']}, {pair['correlation']}"
            figures.append({"source": thumbnail(output / "images" / png_name(image)), "caption": caption})
    return figures


def _remarks(rows: Sequence[Mapping]) -> list[tuple]:
    wrong = [row for row in rows if row["outcome"] != "missing" and (row["outcome"] != "prepared" or row["reason"])]
    return [(row["file"], row["outcome"], row["reason"]) for row in wrong]
