# A stranger installs the package and looks around.
set -eu
d2cxr --version
d2cxr --help > help.txt
d2cxr doctor > doctor.txt || test $? -eq 1  # 1: something optional is missing, and named
python -c "from d2_cxr import prepare, load_set, Predictor, evaluate, convert, configs; print(configs.get('VinDr-CXR/faster_rcnn_R_50_FPN.yaml').INPUT.MIN_SIZE_TEST)"
d2cxr phantoms --output phantoms --num-images 24 --size 128 --contact-sheet phantoms.png
d2cxr statistics phantoms/train.csv --html statistics.html > statistics.txt
d2cxr prepare --images phantoms/dicom --annotations phantoms/train.csv --patients phantoms/patients.csv --size 64 \
    --output datasets/phantom_cxr
d2cxr demo --dry-run --output study
test -s statistics.html -a -s datasets/phantom_cxr/data_quality.html -a -s phantoms.png
