"""Training without a config: a preset chosen from the set, the machine and the best weights at hand."""
