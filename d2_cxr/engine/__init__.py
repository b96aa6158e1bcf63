"""Training, evaluation and prediction with Detectron2: `trainer.setup`, `trainer.train`, `predictor.Predictor`."""
