"""Near copies: films encoded or resized anew are found, other films are not."""

import cv2
import numpy as np

from d2_cxr.data.similarity import correlation, near_copies, perceptual_hash


def film(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (7, 6)).astype(np.float32)
    return cv2.resize(coarse, (128, 128), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def again(image: np.ndarray) -> np.ndarray:
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE)
    return cv2.resize(cv2.resize(jpeg, (77, 90), interpolation=cv2.INTER_AREA), (128, 128))


def test_a_film_encoded_and_resized_anew_is_found_and_no_other():
    films = [film(seed) for seed in range(300)] + [again(film(7))]
    pairs = near_copies([perceptual_hash(image) for image in films], films.__getitem__)
    assert [(first, second) for first, second, _ in pairs] == [(7, 300)]
    assert pairs[0][2] > 0.99


def test_the_hash_is_64_bits_and_does_not_see_brightness():
    value = perceptual_hash(film(1))
    assert len(value) == 16 and perceptual_hash(film(1) // 2 + 40) == value


def test_correlation_of_a_film_with_itself_and_with_its_negative():
    assert round(correlation(film(3), film(3)), 6) == 1 and correlation(film(3), 255 - film(3)) < -0.9999


def test_no_films_have_no_copies():
    assert near_copies([], lambda index: None) == []
