"""Contact sheets: many small images as one, which is what a tracker compares side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def contact_sheet(images: NDArray[np.uint8], columns: int, edge: int = 32) -> NDArray[np.uint8]:
    """(N, C, H, W) uint8 -> (rows, columns) of tiles, (h, w) for one channel and (h, w, 3) for three.

    Tiles are enlarged by the whole factor that brings their height to at least ``edge`` pixels, with a pixel between.
    """
    count, channels, height, width = images.shape
    rows, factor = -(-count // columns), max(1, -(-edge // height))
    sheet = np.zeros((rows * columns, channels, height * factor + 1, width * factor + 1), np.uint8)
    sheet[:count, :, :-1, :-1] = images.repeat(factor, axis=2).repeat(factor, axis=3)
    sheet = sheet.reshape(rows, columns, channels, *sheet.shape[2:]).transpose(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * sheet.shape[1], columns * sheet.shape[3], channels)
    return sheet[..., 0] if channels == 1 else sheet
