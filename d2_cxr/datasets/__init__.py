"""Prepared sets by name, and the cards of the sets whose labels are known."""

from d2_cxr.datasets.builtin import register_all, register_prepared
from d2_cxr.datasets.loading import prepared_images
from d2_cxr.datasets.named_sets import class_names, names_of_set, parse_name, set_folder

__all__ = [
    "class_names",
    "names_of_set",
    "parse_name",
    "prepared_images",
    "register_all",
    "register_prepared",
    "set_folder",
]
