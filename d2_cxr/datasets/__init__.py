"""Prepared sets: their names, their images, and what keeps training and test images apart."""

from d2_cxr.datasets.builtin import register_all, register_prepared
from d2_cxr.datasets.loading import prepared_images
from d2_cxr.datasets.named_sets import NamedSet, UnknownDatasetError, named_set
from d2_cxr.datasets.set_folders import set_folder

__all__ = [
    "NamedSet",
    "UnknownDatasetError",
    "named_set",
    "prepared_images",
    "register_all",
    "register_prepared",
    "set_folder",
]
