"""The statistics of labels as tables of text: rows for the terminal and for the page alike."""

from __future__ import annotations

from collections.abc import Sequence

Table = tuple[Sequence[str], list[list[str]]]  # headers, rows


def split_name(found: dict) -> str:
    """Return the split in words."""
    split = found["split"]
    if split["rule"] == "published":
        return (
            f"published split: {'the images of the paper' if split['is_the_papers'] else 'the rule, on other images'}"
        )
    return f"{split['rule']} split, seed {split['seed']}"


def overview(found: dict) -> Table:
    """Return the numbers of images and boxes."""
    images, boxes, fusion = found["images"], found["boxes"], found["fusion"]
    share = None if found["source"]["consensus"] else fusion["single_reader_share"]
    single = f"{100 * share:.0f} %" if share is not None else "-, a consensus" * found["source"]["consensus"]
    rows = [
        ["images in the table", _count(images["total"])],
        ["with a finding", _count(images["with_finding"])],
        ["no finding (in every reading)", _count(images["negative"])],
        ["train / val / test", " / ".join(_count(images[part]) for part in ("train", "val", "test"))],
        ["boxes read", _count(boxes["read"])],
        ["boxes after fusion", _count(boxes["fused"])],
        ["merged away / dropped", f"{_count(fusion['merged'])} / {_count(fusion['dropped'])}"],
        ["fused boxes of a single reader", single],
        ["images per epoch, stochastic / ceiling", _epoch(found["epoch_length"])],
    ]
    if "patients" in images:
        rows.insert(3, ["patients (an image without one counts as one)", _count(images["patients"])])
    return ("", ""), rows


def problems(found: dict, rules: dict[str, str]) -> Table:
    """Return the kinds of bad rows that occur, with their rules."""
    rows = [[kind, _count(count), rules[kind]] for kind, count in found["problems"].items() if count]
    return ("kind", "rows", "rule"), rows


def classes(found: dict) -> Table:
    """Return the balance of the classes."""
    headers = ("class", "images", "train images", "fused boxes", "repeat factor", "exposures", "exposures, ceiling")
    rows = [
        [
            name,
            _count(entry["images"]),
            _count(entry["train_images"]),
            _count(entry["fused_boxes"]),
            _number(entry["repeat_factor"]),
            _count(round(entry["expected_exposures"])),
            _count(entry["ceil_exposures"]),
        ]
        for name, entry in found["classes"].items()
    ]
    return headers, rows


def fractions(found: dict) -> Table:
    """Return the images with and without labels at each label fraction."""
    rows = [[f"{p} %", _count(n["unlabeled"]), _count(n["labeled"])] for p, n in found["fractions"].items()]
    return ("unlabeled fraction", "images without labels", "images with labels"), rows


def density(found: dict) -> Table:
    """Return the fused boxes per image of each part."""
    rows = [
        [name.replace("_", " ") + " images" * name.startswith("last"), _number(v)]
        for name, v in found["density"].items()
    ]
    return ("images", "fused boxes per image"), rows


def agreement(found: dict, subset: str) -> Table:
    """Return the pairs of readers on one subset, those with most images in common first."""
    entries = [entry for entry in found["agreement"] if entry["subset"] == subset]
    entries.sort(key=lambda entry: -entry["images_both_read"])
    rows = [
        [
            "–".join(entry["readers"]),
            _count(entry["images_both_read"]),
            _count(entry["images_both_drew"]),
            _count(entry["images"]),
            _moments(entry["pairs_all"]),
            _moments(entry["pairs_iou>0.2"]),
        ]
        for entry in entries
    ]
    return ("readers", "both read", "both drew", "both left", "IoU, all pairs", "IoU, pairs > 0.2"), rows


def position(audit: dict) -> Table:
    """Return what the order of the images says about their boxes."""
    last, draws = audit["last_tenth_of_train"], audit["random_draws"]
    span = f"{draws['min']:.2f} to {draws['max']:.2f} in {draws['draws']} draws" if draws else "-"
    raw, again = audit["raw_boxes"], audit["raw_boxes_rows_shuffled"]
    return ("", ""), [
        ["fused boxes per image, train minus test", f"{audit['train_minus_test']:+.2f}"],
        [f"p, {audit['permutations']} random orders", f"{audit['p']:.4f}"],
        [f"last {last['images']} training images", _number(last["mean"])],
        [f"{last['images']} training images at random", span],
        ["raw boxes per image, train / test", f"{raw['train']:.2f} / {raw['test']:.2f}"],
        ["the same by first appearance in shuffled rows", f"{again['train']:.2f} / {again['test']:.2f}"],
    ]


def readers(audit: dict) -> Table:
    """Return how many images of each part a reader read."""
    rows = [[reader, *(_count(n) for n in parts.values())] for reader, parts in audit["readers"].items()]
    return ("reader", *(f"{part} images" for part in audit["images"])), rows


def readers_predict(audit: dict) -> Table:
    """Return how well the readers' names alone predict each class."""
    entries = {"any finding": audit["any_finding"], **audit["classes"]}
    rows = [[name, _count(entry["positive"]), _number(entry["auroc"], 3)] for name, entry in entries.items()]
    return ("what", "images with it", "AUROC"), rows


def box_f1(audit: dict) -> Table:
    """Return the agreement of two readers by class."""
    entries = {**audit["classes"], "all classes": audit["all"]}
    rows = [
        [name, _count(entry["boxes"]), _count(entry["matches"]), _number(entry["f1"])]
        for name, entry in entries.items()
    ]
    return ("class", "boxes compared", "matches", f"F1 at IoU > {audit['iou_threshold']:g}"), rows


def as_text(title: str, table: Table) -> str:
    """Return a table as aligned lines under its title; numbers to the right, the first column to the left."""
    headers, rows = table
    lines = [list(headers), *rows] if any(headers) else rows
    if not rows:
        return f"{title}\n  none\n"
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    texts = [
        "  "
        + "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    return "\n".join([title, *(text.rstrip() for text in texts), ""])


def _count(number: int) -> str:
    return f"{number:,}"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _moments(entry: dict) -> str:
    return f"{entry['mean']:.3f} ± {entry['std']:.3f} (n = {entry['n']:,})" if entry["n"] else "-"


def _epoch(lengths: dict) -> str:
    return f"{lengths['stochastic']:,.2f} / {lengths['ceil']:,}"
