"""DICOM files and pictures to arrays in display sense, and what makes network input of them."""
