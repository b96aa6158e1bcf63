"""Labels of annotation tools: one small parser a format, each into the one label table."""

FORMATS = ("csv", "coco", "yolo", "voc", "cvat", "label_studio", "labelme")  # its modules
