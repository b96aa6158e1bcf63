"""DICOM files and pictures to arrays as displayed (P-values), and what makes network input of them."""
