"""audit/set_overview.py: counts that can be checked by hand."""

from d2_cxr.audit import set_overview

CATEGORIES = [{"id": 1, "name": "Mass"}, {"id": 2, "name": "Nodule"}]


def image(number, patient=None, **more):
    return {"id": number, "file_name": f"{number}.png", "width": 100, "height": 100, "patient": patient, **more}


def box(image_id, category, side, **more):
    return {"image_id": image_id, "category_id": category, "bbox": [0, 0, side, side], "area": side * side, **more}


def coco(images, boxes=()):
    return {"images": images, "annotations": list(boxes), "categories": CATEGORIES}


FILES = {
    "stratified/train.json": coco([image(1, 7), image(2, 7)], [box(1, 2, 10), box(1, 2, 30), box(2, 2, 20)]),
    "stratified/val.json": coco([]),
    "stratified/test.json": coco([image(3, 8)], [box(3, 1, 50)]),
    "stratified/negative_train.json": coco([image(4, 9)]),
    "unlabeled.json": coco([image(5)]),
    "readers.json": coco(
        [image(1, readers=["R1", "R2"]), image(2, readers=["R1"])],
        [box(1, 2, 9, reader="R1"), box(1, 2, 9, reader="R1"), box(1, 2, 9, reader="R2")],
    ),
}


def test_a_class_row_has_boxes_images_by_part_and_the_box_side_in_percent():
    assert set_overview.classes(FILES) == [
        ("Nodule", 3, 2, 0, 0, "20 %", "11 to 29 %"),
        ("Mass", 1, 0, 0, 1, "50 %", "50 to 50 %"),
    ]


def test_a_reader_who_drew_two_boxes_on_one_image_has_one_image_with_a_box():
    assert set_overview.readers(FILES) == [("R1", 2, 1, 2), ("R2", 1, 1, 1)]


def test_patients_are_counted_with_the_negative_images_of_their_part():
    assert set_overview.patients(FILES) == [("train", 2, 3, 2), ("test", 1, 1, 1)]
    assert set_overview.patients({"unlabeled.json": coco([image(5)])}) == []


def test_names_are_those_of_parts_that_hold_an_image():
    assert set_overview.names("clinic", FILES) == [
        ("clinic_train", 2, 3),
        ("clinic_test", 1, 1),
        ("clinic_negative_train", 1, 0),
        ("clinic_unlabeled", 1, 0),
    ]


def test_the_published_split_is_meant_where_it_was_written():
    assert set_overview.split_of({"published/train.json": coco([]), "stratified/train.json": coco([])}) == "published"


def test_the_contact_sheet_has_images_of_each_class_and_some_without_findings():
    groups = set_overview.examples(FILES, each=1, most=60)
    assert [(title, len(images)) for title, images in groups] == [("Mass", 1), ("Nodule", 1), ("no finding", 1)]
    shown, boxes = groups[0][1][0]
    assert shown["id"] == 3 and [(index, name) for index, name, _ in boxes] == [(0, "Mass")]


def test_the_contact_sheet_of_many_classes_stays_small():
    groups = set_overview.examples(FILES, each=12, most=3)
    assert sum(len(images) for _, images in groups) == 3


def test_a_set_without_boxes_shows_unlabeled_images():
    assert [title for title, _ in set_overview.examples({"unlabeled.json": coco([image(5)])}, 3, 60)] == ["unlabeled"]
