"""A folder of images and a table of boxes to a prepared set, and what the images alone give away."""
