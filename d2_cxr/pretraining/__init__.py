"""Self-supervised pretraining on prepared radiographs with solo-learn."""
