# Somebody with a folder of PNGs and a table of another tool: page, detector, mistakes, findings, the study's hours.
set -eu
python - <<'PYTHON'
from pathlib import Path
import cv2, numpy as np
Path("images").mkdir()
rows = ["filename;label;xmin;ymin;xmax;ymax"]
for number in range(40):
    random = np.random.default_rng(number)
    image = random.integers(40, 90, (96, 96)).astype(np.uint8)
    x, y = (int(value) for value in random.integers(20, 76, 2))
    if number % 4:
        cv2.circle(image, (x, y), 15, 230, -1)
    name = f"case{number // 2:03d}_{number}"
    rows.append(f"{name}.png;Opacity;{x - 15},0;{y - 15};{x + 15};{y + 15}" if number % 4 else f"{name}.png;No finding;;;;")
    cv2.imwrite(f"images/{name}.png", image)
Path("boxes.csv").write_text("\n".join(rows) + "\n")
PYTHON
d2cxr prepare --images images --annotations boxes.csv --patients names --size 96 --output datasets/clinic
d2cxr train --set clinic=datasets/clinic --output output/clinic --preset quick --weights random \
    SOLVER.MAX_ITER 10 SOLVER.WARMUP_ITERS 1 CXR.RESAMPLES 50
d2cxr predict --weights output/clinic/model_final.pth images/case000_1.png --output output/findings
d2cxr evaluate --dataset clinic_test --root datasets --output output/evaluation --resamples 50 \
    --results output/clinic/inference/clinic_test/coco_instances_results.json
d2cxr study --plan certificate --set clinic=datasets/clinic --preset quick --dry-run --output output/study
d2cxr prepare --images images --annotations boxes.csv --patients names --size 96 --split-like datasets/clinic \
    --output datasets/clinic_2
python -c "
import json
def names(name, part):
    listed = json.load(open(f'datasets/{name}/annotations/stratified/{part}.json'))['images']
    return sorted(image['file_name'] for image in listed)
assert all(names('clinic', part) == names('clinic_2', part) != [] for part in ('val', 'test'))"
test -s output/clinic/mistakes.html -a -s output/findings/findings.json -a -s output/evaluation/evaluation.json
test -s output/clinic/inference/clinic_test/evaluation.html -a -s output/evaluation/evaluation.html
