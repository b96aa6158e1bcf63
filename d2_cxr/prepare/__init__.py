"""A folder of films and a table of boxes to a prepared set, and what the films alone give away."""
