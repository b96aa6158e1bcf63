"""What can be known about a data set before anything is trained: labels, near duplicates, header shortcuts."""
