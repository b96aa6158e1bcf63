# Somebody with Detectron2 code of their own: our sets by name, their trainer, our weights in plain Detectron2.
set -eu
d2cxr phantoms --output phantoms --num-images 30 --size 128
d2cxr prepare --images phantoms/dicom --annotations phantoms/train.csv --size 64 --output datasets/phantom_cxr
cat > theirs.py <<'PYTHON'
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultTrainer

images = DatasetCatalog.get("phantom_cxr_train")  # no import of d2_cxr here: DETECTRON2_ENV_MODULE
print(len(images), "images of phantom_cxr_train")
cfg = get_cfg()
cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"))
cfg.merge_from_list(["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", 18, "OUTPUT_DIR", "theirs"])
cfg.merge_from_list(["MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0])
cfg.merge_from_list(["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "DATALOADER.NUM_WORKERS", 0])
cfg.merge_from_list(["MODEL.ROI_HEADS.NUM_CLASSES", 14, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2])
cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("phantom_cxr_train",), ()
trainer = DefaultTrainer(cfg)
trainer.train()
print("stock training done")
PYTHON
DETECTRON2_ENV_MODULE=d2_cxr DETECTRON2_DATASETS=datasets python theirs.py
d2cxr train --set phantom_cxr=datasets/phantom_cxr --output ours --preset quick --weights random SOLVER.MAX_ITER 4 \
    SOLVER.WARMUP_ITERS 0 CXR.RESAMPLES 20
python - <<'PYTHON'
import glob
import cv2
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor

cfg = get_cfg()
cfg.merge_from_file("ours/detectron2.yaml")  # no key of d2_cxr, no import of it
image = cv2.imread(sorted(glob.glob("datasets/phantom_cxr/images/*.png"))[0])
print(len(DefaultPredictor(cfg)(image)["instances"]), "instances in plain Detectron2")
PYTHON
