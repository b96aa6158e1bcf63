"""Training and evaluation with Detectron2: `trainer.setup`, `trainer.train`, `evaluate.evaluate_only`."""
