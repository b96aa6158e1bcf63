"""Three sentences on a prepared set, each with a traffic light: its files, its labels, and what would fool a study."""

from __future__ import annotations

from collections.abc import Mapping

from d2_cxr.counted import counted

GREEN, YELLOW, RED = "green", "yellow", "red"
_MANY = 0.05  # of all files or boxes: more is not an accident
SHORTCUT = 0.6, 0.75  # AUROC of the header alone: from here on yellow, red (the interval's lower end)


def verdicts(
    counts: Mapping[str, int], patients_known: bool, copies_across: int, shortcut: Mapping | None
) -> list[tuple]:
    """Return (light, subject, sentence) for files, labels and shortcuts.

    Args:
        counts: of dataset.json.
        patients_known: whether the split could keep each patient in one part.
        copies_across: pairs of near duplicates whose images are in different parts.
        shortcut: `header_shortcut_audit`, None where it could not be computed.
    """
    return [_files(counts), _labels(counts), _leaks(counts, patients_known, copies_across, shortcut)]


def _files(counts: Mapping[str, int]) -> tuple[str, str, str]:
    bad = {kind: counts[kind] for kind in ("refused", "quarantined", "missing") if counts.get(kind)}
    total = counts["prepared"] + sum(bad.values())
    listed = ", ".join(f"{count} {kind}" for kind, count in bad.items())
    odd = f"; {counted(counts['odd'], 'has', 'have')} a remark" if counts.get("odd") else ""
    if not bad:
        return (YELLOW if odd else GREEN), "Files", f"All images ({total:,}) were prepared{odd}."
    light = RED if sum(bad.values()) > _MANY * total else YELLOW
    return light, "Files", f"Prepared {counted(counts['prepared'], 'image', of=total)} ({listed}){odd}."


def _labels(counts: Mapping[str, int]) -> tuple[str, str, str]:
    split = "published" if "published_train" in counts else "stratified"
    if f"{split}_train" not in counts:
        return YELLOW, "Labels", "There are none: the images serve for pretraining only."
    boxes, lost = counts.get("fused_boxes", 0), counts.get("boxes_left_out", 0) + counts.get("boxes_outside", 0)
    empty = [part for part in ("train", "val", "test") if not counts[f"{split}_{part}"]]
    if empty:
        where = " and ".join(empty)
        return RED, "Labels", f"No image with findings is in {where}: label more images, or split them in another way."
    cut = counts.get("boxes_partly_outside", 0)
    if not lost and not cut:
        return GREEN, "Labels", f"All boxes ({boxes:,}) lie inside their images."
    light = RED if lost > _MANY * (boxes + lost) else YELLOW
    return light, "Labels", f"Boxes left out: {lost:,}; cut to their image: {cut:,}; remaining: {boxes:,}."


def _leaks(
    counts: Mapping[str, int], patients_known: bool, across: int, shortcut: Mapping | None
) -> tuple[str, str, str]:
    found = []
    if across:
        found.append((RED, f"{across} near-duplicate pairs are in different parts"))
    low = shortcut["low"] if shortcut else 0.0
    if shortcut and low >= SHORTCUT[0]:
        light = RED if low >= SHORTCUT[1] else YELLOW
        found.append((light, f"the file header alone tells findings from none (AUROC {shortcut['auroc']:.2f})"))
    if not patients_known and "stratified_train" in counts:
        found.append((YELLOW, "no patient is known, so one patient's images can be in training and test (--patients)"))
    if not found:
        header = f"the header alone predicts findings hardly (AUROC {shortcut['auroc']:.2f}); " if shortcut else ""
        return GREEN, "Shortcuts", _sentence(f"{header}no near duplicate is in two parts")
    sentence = "; ".join(text for _, text in found)
    return max((light for light, _ in found), key=(GREEN, YELLOW, RED).index), "Shortcuts", _sentence(sentence)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
