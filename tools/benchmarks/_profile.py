"""Seconds of every part of a detector's training step, by clocks around the parts and hooks at their borders.

The backward pass runs in the opposite order of the forward pass, so the first gradient that arrives at a feature of the
FPN ends the heads' part, and the first that arrives at a feature of the ResNet ends the FPN's.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator

from benchmarks._detector import synchronize

HEADS, FPN, BACKBONE = "RPN and RoI heads, backward", "FPN, backward", "backbone, backward"
REST = "rest (losses' values written, sums)"


class Clocks:
    """Sums of seconds by part; a part inside another is taken out of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [0.0]  # of each part that is running: seconds of the parts within it
        self._borders: dict[str, float] = {}

    @contextlib.contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Count what is done meanwhile."""
        synchronize()
        start = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            synchronize()
            taken = time.perf_counter() - start
            self.seconds[part] += taken - self._inside.pop()
            self._inside[-1] += taken

    def around(self, owner: object, name: str, part: str) -> None:
        """Put a clock around a method of one object."""
        method = getattr(owner, name)

        def timed(*args, **kwargs):
            with self.running(part):
                return method(*args, **kwargs)

        setattr(owner, name, timed)

    def reach(self, border: str) -> None:
        """Note when a border of the backward pass is reached, the first time in a step."""
        if border not in self._borders:
            synchronize()
            self._borders[border] = time.perf_counter()

    def divide_backward(self, start: float) -> None:
        """Count the backward pass that began at `start` and ends now, by the borders reached."""
        synchronize()
        now, previous = time.perf_counter(), start
        for part in (HEADS, FPN, BACKBONE):
            reached = self._borders.get(part, now)
            self.seconds[part] += reached - previous
            previous = reached
        self._inside[-1] += now - start
        self._borders.clear()


class Profile:
    """A trainer of single steps whose parts are timed from now on."""

    def __init__(self, stepper):
        """Take a trainer of `train_step.build_stepper` with a GeneralizedRCNN on one device; it is changed."""
        self.stepper, self.clocks, self.steps = stepper, Clocks(), 0
        _watch(stepper, self.clocks)
        self.run(1)  # compiles kernels, starts the loader
        self.clocks.seconds.clear()
        self.steps = 0

    def run(self, steps: int) -> None:
        """Take steps."""
        from detectron2.utils.events import EventStorage

        with EventStorage(0) as storage:
            for step in range(steps):
                storage.iter = self.stepper.iter = step
                self.stepper.run_step()
        self.steps += steps

    def table(self) -> dict[str, float]:
        """Return part -> milliseconds per step, largest first, and "step", their sum."""
        parts = {part: 1000 * seconds / self.steps for part, seconds in self.clocks.seconds.items()}
        return dict(sorted(parts.items(), key=lambda row: -row[1])) | {"step": sum(parts.values())}


class _TimedLoader:
    def __init__(self, iterator: Iterator, clocks: Clocks):
        self.iterator, self.clocks = iterator, clocks

    def __next__(self):
        with self.clocks.running("loader"):
            return next(self.iterator)


def _watch(stepper, clocks: Clocks) -> None:
    model = stepper.model
    rpn, heads, backbone = model.proposal_generator, model.roi_heads, model.backbone
    for owner, name, part in (
        (stepper, "run_step", REST),
        (model, "preprocess_image", "normalizing and batching"),
        (backbone, "forward", "FPN, forward"),
        (backbone.bottom_up, "forward", "backbone, forward"),
        (rpn, "forward", "RPN: rest, forward"),
        (rpn.anchor_generator, "forward", "RPN: anchors"),
        (rpn.rpn_head, "forward", "RPN: head, forward"),
        (rpn, "label_and_sample_anchors", "RPN: matching and sampling"),
        (rpn, "losses", "RPN: losses"),
        (rpn, "predict_proposals", "RPN: decoding and NMS"),
        (heads, "label_and_sample_proposals", "RoI heads: matching and sampling"),
        (heads, "_forward_box", "RoI heads: box head and losses, forward"),
        (heads.box_pooler, "forward", "RoI heads: RoIAlign, forward"),
        (stepper.optimizer, "step", "optimizer"),
    ):
        clocks.around(owner, name, part)
    stepper._data_loader_iter_obj = _TimedLoader(stepper._data_loader_iter, clocks)
    backbone.bottom_up.register_forward_hook(lambda *call: _mark_gradients(call[2], FPN, clocks))
    backbone.register_forward_hook(lambda *call: _mark_gradients(call[2], HEADS, clocks))
    _watch_backward(stepper, clocks)


def _mark_gradients(features: dict, border: str, clocks: Clocks) -> None:
    """Note when a gradient arrives at a feature: what used the features has done its backward pass then."""
    for feature in features.values():
        if feature.requires_grad:
            feature.register_hook(lambda _gradient: clocks.reach(border))


def _watch_backward(stepper, clocks: Clocks) -> None:
    """Time from zeroing the gradients, which comes right before the backward pass, to `after_backward`."""
    zero_grad, after_backward = stepper.optimizer.zero_grad, stepper.after_backward
    start = 0.0

    def begin(*args, **kwargs):
        nonlocal start
        zero_grad(*args, **kwargs)
        synchronize()
        start = time.perf_counter()

    def end():
        clocks.divide_backward(start)
        after_backward()

    stepper.optimizer.zero_grad, stepper.after_backward = begin, end
