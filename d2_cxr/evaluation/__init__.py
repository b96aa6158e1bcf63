"""Evaluation: every number with its interval and its definition.

Arrays in, arrays out: `matching` compares detections with truth once, the metrics (`average_precision`, `froc`,
`image_level`) are functions of those matches and of one weight per image, so that a bootstrap resample is
another column of weights and nothing is matched again. `cxr_evaluation` is the Detectron2 evaluator around it.
"""
