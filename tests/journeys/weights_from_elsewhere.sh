# Somebody with a backbone that another learner pretrained: converted with a check, trained from, and used directly.
set -eu
python - <<'PYTHON'
import torch, torchvision
from safetensors.torch import save_file

torch.manual_seed(0)
state = torchvision.models.resnet18(weights=None).state_dict()
for name, value in state.items():
    if name.endswith("running_mean"):
        value.normal_(0, 0.1)
moco = {f"module.encoder_q.{name}": value for name, value in state.items() if not name.startswith("fc.")}
torch.save({"epoch": 200, "arch": "resnet18", "state_dict": moco}, "moco.pth.tar")
save_file({name: value.contiguous() for name, value in state.items()}, "resnet18.safetensors")
PYTHON
d2cxr convert moco.pth.tar output/moco.pth --pixel-mean 123.675 116.28 103.53 --pixel-std 58.395 57.12 57.375
d2cxr convert resnet18.safetensors output/torchvision.pth
d2cxr phantoms --output phantoms --num-images 24 --size 128
d2cxr prepare --images phantoms/dicom --annotations phantoms/train.csv --size 64 --output datasets/phantom_cxr
d2cxr train --set phantom_cxr=datasets/phantom_cxr --weights output/moco.pth --output output/run --preset quick \
    SOLVER.MAX_ITER 4 SOLVER.WARMUP_ITERS 0 CXR.RESAMPLES 20
d2cxr train --set phantom_cxr=datasets/phantom_cxr --weights resnet18.safetensors --output output/direct --preset quick \
    SOLVER.MAX_ITER 4 SOLVER.WARMUP_ITERS 0 CXR.RESAMPLES 20
python -c "
import json
groups = json.load(open('output/run/weights.json'))['groups']
print('backbone from', {row['origin'] for name, row in groups.items() if 'bottom_up' in name})"
test -s output/moco.yaml -a -s output/direct/start/resnet18.pth
