"""From DICOM films and readers' boxes to a prepared set, and back to it by name (docs/formats.md, section 1)."""
