"""Which images to label next: orders of images from scores and features, and picks that keep patients together."""

STRATEGIES = ("random", "uncertainty", "diverse", "uncertainty+diverse")
DEFAULT = "random"
