"""How many labels pretraining saves: the study and its report."""
