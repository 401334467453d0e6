"""The images that the networks learn: handwritten digits. They come with scikit-learn, so nothing is downloaded."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import UserError
from ..implementations import FloatArray

CLASSES = 10
LARGEST_PIXEL = 16.0  # a pixel is the number of dark points in a block of 4 × 4


@dataclass(frozen=True)
class Digits:
    """Images of 8 × 8 pixels as rows of values from 0 to 1, [images, 64], and the digit in each image, [images]."""

    train_images: FloatArray
    train_targets: npt.NDArray[np.int64]
    test_images: FloatArray
    test_targets: npt.NDArray[np.int64]


def load(train: int, test: int | None, seed: int) -> Digits:
    """The data set, split into ``train`` training images and ``test`` test images (None: all other images).

    Each digit has the same share in both parts. Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten
    Digits, UCI Machine Learning Repository, 1998; the 1797 test images of that set.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - an extra
        from sklearn.model_selection import train_test_split  # noqa: PLC0415
    except ImportError:
        raise UserError(
            "the images come with scikit-learn, which is not installed: `make train` installs it (EXTRAS=train)"
        ) from None
    pixels, digits = load_digits(return_X_y=True)
    parts = train_test_split(
        pixels / LARGEST_PIXEL, digits, train_size=train, test_size=test, stratify=digits, random_state=seed
    )
    return Digits(parts[0], parts[2], parts[1], parts[3])
