"""A preparation worker: reads one task a line on stdin, answers one line on stdout; ends with its input.

Run as `python -m d2_cxr.preparation.image_worker` by workers.py, so that it can be killed alone. It imports neither
torch nor Detectron2 nor pandas: a worker costs its codecs and its image.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import time

import cv2
import numpy as np

from d2_cxr import artifacts
from d2_cxr.dicom import archives, image_files
from d2_cxr.dicom.archives import Member
from d2_cxr.dicom.preprocess import Preprocess, prepare_image
from d2_cxr.dicom.stored_image import ImageError
from d2_cxr.drawing import encode_png

SMALL_FILE = 1_000_000  # bytes
READY = "ready"
CANNOT_WRITE = "cannot write"  # an outcome that ends the run


def prepare_file(
    path: str, png: str, rules: Preprocess, refused_png: str | None = None, member: Member | None = None
) -> dict:
    """Prepare one image file and write its PNG; of a refused file a small picture, where there is something to see.

    Args:
        path: of the file, or of an archive that holds it as `member`.
        png, refused_png: where to write.
        rules: how the image becomes network input.
        member: its place in the archive; None: `path` is the file.

    Returns:
        outcome ("prepared" or "refused"), reason (what was unusual, or why it was refused), bytes, source_sha256,
        decode_ms and total_ms; of a prepared image also rows, columns, its attributes, and image_sha256 (of the pixel
        array).

    Raises:
        OSError: the PNG cannot be written; a full disk is not the image's fault.
    """
    start = time.perf_counter()
    result: dict = {"outcome": "refused", "reason": "", "decode_ms": 0.0}
    try:
        content = archives.read_file(path, member)
    except ImageError as refusal:
        result["reason"] = str(refusal)
    except OSError as error:
        result["reason"] = f"the file cannot be read ({type(error).__name__})"
    else:
        result |= {"bytes": len(content), "source_sha256": artifacts.sha256_bytes(content)}
        pixels = _prepare(content, rules, result)
        if pixels is not None:
            artifacts.write_bytes(png, encode_png(pixels))
        elif refused_png:
            _write_preview(content, refused_png)
    result["total_ms"] = (time.perf_counter() - start) * 1000
    return result


def _prepare(content: bytes, rules: Preprocess, result: dict) -> np.ndarray | None:
    """Return the prepared pixels, or None; add what is known to the result."""
    try:
        before = time.perf_counter()
        image = image_files.decode_image(content, min_size=rules.size)
        result["decode_ms"] = (time.perf_counter() - before) * 1000
        pixels, _ = prepare_image(image, rules)
    except ImageError as refusal:
        result["reason"] = str(refusal)
        return None
    except Exception as error:  # a decoder may raise anything; its text may quote the header, so it is not repeated
        result["reason"] = f"unexpected {type(error).__name__} while reading; please report the kind of file"
        return None
    result |= image.attributes
    result |= {
        "outcome": "prepared",
        "reason": "; ".join(image.notes),
        "rows": image.source_height,
        "columns": image.source_width,
        "image_sha256": artifacts.sha256_bytes(pixels.tobytes()),
    }
    return pixels


def _write_preview(content: bytes, path: str) -> None:
    small = image_files.preview(content)
    if small is not None:
        artifacts.write_bytes(path, encode_png(small))


def _limit_cpu(num_bytes: int, small_file_s: float) -> None:
    """Let the system end this process (SIGXCPU) if a file below SMALL_FILE takes more CPU seconds than these."""
    used, (_, most) = resource.getrusage(resource.RUSAGE_SELF), resource.getrlimit(resource.RLIMIT_CPU)
    until = most
    if num_bytes < SMALL_FILE:
        until = math.ceil(used.ru_utime + used.ru_stime + small_file_s)
        until = until if most == resource.RLIM_INFINITY else min(until, most)
    resource.setrlimit(resource.RLIMIT_CPU, (until, most))


def _bytes_on_disk(path: str, member: Member | None) -> int:
    if member is not None:
        return member.packed
    return os.path.getsize(path) if os.path.exists(path) else SMALL_FILE


def main() -> None:
    """Answer every task, a line of JSON, with a line of JSON, until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a codec prints must not look like an answer
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a decoder that crashes leaves no dump with an image in it
    answers.write(READY + "\n")
    answers.flush()
    for line in sys.stdin:
        task = json.loads(line)
        rules = Preprocess.from_dict(task["rules"])
        try:
            member = Member(**task["member"]) if task.get("member") else None
            _limit_cpu(_bytes_on_disk(task["path"], member), task["small_file_s"])
            result = prepare_file(task["path"], task["png"], rules, task.get("refused_png"), member)
        except OSError as error:
            result = {"outcome": CANNOT_WRITE, "reason": error.strerror or type(error).__name__}
        try:
            answers.write(json.dumps(result) + "\n")
            answers.flush()
        except BrokenPipeError:  # the parent has ended
            os._exit(0)


if __name__ == "__main__":
    main()
