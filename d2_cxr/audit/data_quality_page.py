"""data_quality.html: what became of every file of a set, in one page that opens anywhere.

It holds no header text and no time: two equal runs write the same page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from d2_cxr.audit import pages, set_overview, verdicts
from d2_cxr.counted import counted
from d2_cxr.datasets import image_array, manifest
from d2_cxr.drawing import class_color
from d2_cxr.image_name import png_name
from d2_cxr.labels.problems import PROBLEMS

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
_MOST_SHOWN = 40  # pictures of a kind; the tables have all
_LISTED = 200
_SHEET_TILE = 224  # pixels of an image on the contact sheet
_SHEET_EACH, _SHEET_MOST = 12, 60  # images per class, in all


def write(
    output: Path,
    description: Mapping,
    rows: Sequence[Mapping],
    left_out: Mapping[str, str],
    duplicates: Sequence[Mapping] = (),
    homes: Mapping[str, str] | None = None,
    shortcut: Mapping | None = None,
    files: Mapping[str, Mapping] | None = None,
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
        files: path below annotations/ -> COCO dict, as written.
    """
    outcomes = Counter(row["outcome"] for row in rows)
    refused = [row for row in rows if row["outcome"] in ("refused", "quarantined")]
    odd = [row for row in rows if row["outcome"] == "prepared" and row["reason"]]
    missing = [row["image_name"] for row in rows if row["outcome"] == "missing"]
    counts, files, homes = description["counts"], files or {}, homes or {}
    patients = set_overview.patients(files)
    pages.write_page(
        output / FILE,
        "data_quality.html.j2",
        name=description["name"],
        verdicts=verdicts.verdicts(counts, bool(patients), _across(duplicates, homes), shortcut),
        names=set_overview.names(description["name"], files),
        sheet=_sheet(output, files),
        sheet_each=_SHEET_EACH,
        classes=set_overview.classes(files),
        readers=set_overview.readers(files),
        patients=patients,
        rules=_rules(description),
        outcomes=[(outcome, outcomes[outcome], meaning) for outcome, meaning in manifest.OUTCOMES.items()],
        problems=[(kind, counts[kind], meaning) for kind, meaning in _PROBLEMS.items() if counts.get(kind)],
        notes=_notes(description),
        parts=_parts(counts),
        census=_census([row for row in rows if row["outcome"] == "prepared"]),
        pictures=_pictures(output, refused[:_MOST_SHOWN], odd[:_MOST_SHOWN]),
        refused=len(refused),
        odd=len(odd),
        missing=", ".join(missing),
        missing_count=len(missing),
        left_out=list(left_out.items())[:_LISTED],
        left_out_count=len(left_out),
        duplicates=_duplicates(output, duplicates[:_MOST_SHOWN], homes),
        duplicate_count=len(duplicates),
        shown_pairs=_MOST_SHOWN,
        shortcut=shortcut,
        files=_remarks(rows),
    )


def thumbnail(path: Path, side: int = _THUMB) -> str:
    """Return the data URL of a small copy of an image, a JPEG of `side` pixels at most; "" where there is no file."""
    try:
        return pages.jpeg_url(image_array.read_small(path, side))
    except FileNotFoundError:
        return ""


def _sheet(output: Path, files: Mapping[str, Mapping]) -> list[dict]:
    """Return the contact sheet: by class, images with all their boxes in fractions of the image's sides."""
    groups: list[dict] = []
    colors = ["#{:02x}{:02x}{:02x}".format(*class_color(index)) for index in range(14)]
    for place, (title, images) in enumerate(set_overview.examples(files, _SHEET_EACH, _SHEET_MOST)):
        tiles = []
        for image, boxes in images:
            source = thumbnail(output / "images" / image["file_name"], _SHEET_TILE)
            rectangles = [_rectangle(colors[index % 14], name, box) for index, name, box in boxes]
            sides = {"width": image["width"], "height": image["height"]}
            tiles.append(
                {"source": source, "name": image["file_name"].removesuffix(".png"), "boxes": rectangles, **sides}
            )
        color = colors[place % 14] if any(boxes for _, boxes in images) else ""
        groups.append({"title": title, "tiles": tiles, "color": color})
    return groups


def _rectangle(color: str, name: str, box: Mapping) -> dict:
    readers = f", {counted(box['num_readers'], 'reader')}" if "num_readers" in box else ""
    x, y, width, height = (round(float(value), 1) for value in box["bbox"])
    return {"color": color, "text": f"{name}{readers}", "x": x, "y": y, "width": width, "height": height}


def _across(pairs: Sequence[Mapping], homes: Mapping[str, str]) -> int:
    """Count near duplicates of which one image is in training and the other in validation or test."""
    crossing = 0
    for pair in pairs:
        parts = [set(_own_parts(homes.get(pair[key], ""))) for key in ("image_name", "other_image_name")]
        crossing += bool(parts[0] and parts[1] and parts[0] != parts[1])
    return crossing


def _own_parts(homes: str) -> list[str]:
    """Return the parts of "stratified/train, published/negative_test" with their split: "stratified train"."""
    found = [home.split("/") for home in homes.split(", ") if "/" in home]
    return [f"{split} {part.removeprefix('negative_')}" for split, part in found]


def _rules(description: Mapping) -> str:
    rules = description["preprocess"]
    return (
        f"{rules['size']} × {rules['size']} pixels, {rules['resize']}, equalize {rules['equalize']}, window "
        f"{rules['window']}; fusion {description['fusion']['rule']}; "
        f"{counted(len(description['class_names']), 'class')}."
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
        source = thumbnail(path)
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
