import numpy as np
import pytest
from pydicom.dataset import Dataset

pytest.importorskip("highdicom", reason="highdicom is missing: pip install -e '.[delivery]'")

from d2_cxr.delivery.presentation_state import presentation_state
from d2_cxr.delivery.source import DeliveryError


def texts(state):
    return [text.UnformattedTextValue for item in state.GraphicAnnotationSequence for text in item.TextObjectSequence]


def test_boxes_and_labels_lie_on_the_source_image(make_source, boxes, algorithm):
    state = presentation_state(make_source(), boxes, algorithm)
    first = state.GraphicAnnotationSequence[0]
    assert first.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "2.25.11"
    outline = first.GraphicObjectSequence[0]
    assert outline.GraphicAnnotationUnits == "PIXEL" and outline.GraphicType == "POLYLINE"
    assert list(outline.GraphicData) == [40, 20, 60, 20, 60, 30, 40, 30, 40, 20]
    assert texts(state) == ["Cardiomegaly 0.91", "Pneumothorax 0.50", "Research only, not for diagnosis."]
    assert (state.PatientName, state.StudyInstanceUID, state.Modality) == ("Doe^Jane", "2.25.13", "PR")
    series = state.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == "2.25.12"


def test_labels_stay_within_the_image(make_source, boxes, algorithm):
    state = presentation_state(make_source(), boxes, algorithm)
    for item in state.GraphicAnnotationSequence:
        for text in item.TextObjectSequence:
            assert min(text.BoundingBoxTopLeftHandCorner) >= 0
            x, y = text.BoundingBoxBottomRightHandCorner
            assert x <= 100 and y <= 80


def test_an_image_without_findings_says_so(make_source, algorithm):
    state = presentation_state(make_source(), [], algorithm)
    assert texts(state) == ["No finding at or above its threshold. Research only, not for diagnosis."]


@pytest.mark.parametrize(
    "elements, shape",
    [
        ({}, "IDENTITY"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "INVERSE"),
        ({"PresentationLUTShape": "INVERSE"}, "INVERSE"),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, "INVERSE"),
    ],
)
def test_polarity_is_the_images(make_source, boxes, algorithm, elements, shape):
    assert presentation_state(make_source(**elements), boxes, algorithm).PresentationLUTShape == shape


def test_the_first_of_several_windows_is_shown(make_source, boxes, algorithm):
    source = make_source(WindowCenter=[2048.5, 900], WindowWidth=[4096, 300], RescaleSlope=2, RescaleIntercept=-5)
    state = presentation_state(source, boxes, algorithm)
    (window,) = state.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (2048.5, 4096)
    assert (state.RescaleSlope, state.RescaleIntercept, state.RescaleType) == (2, -5, "US")


@pytest.mark.parametrize("window", [{"WindowCenter": 5, "WindowWidth": 0}, {"WindowCenter": 5}])
def test_a_window_that_the_standard_forbids_is_left_out(make_source, boxes, algorithm, window):
    assert "SoftcopyVOILUTSequence" not in presentation_state(make_source(**window), boxes, algorithm)


def test_tables_are_copied_without_their_free_text(make_source, boxes, algorithm):
    table = Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.LUTExplanation = "PLANTED"
    table.LUTData = [0, 1, 2, 3]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    state = presentation_state(make_source(VOILUTSequence=[table]), boxes, algorithm)
    copied = state.SoftcopyVOILUTSequence[0].VOILUTSequence[0]
    assert list(copied.LUTData) == [0, 1, 2, 3] and "LUTExplanation" not in copied


def test_an_rgb_image_is_refused(make_source, boxes, algorithm):
    source = make_source(np.zeros((80, 100)), SamplesPerPixel=3)
    with pytest.raises(DeliveryError, match="needs one sample a pixel"):
        presentation_state(source, boxes, algorithm)
