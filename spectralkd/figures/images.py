"""Images as HTML."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image
from torch import Tensor


def contact_sheet(images: Tensor, columns: int = 15) -> str:
    """An HTML picture of all images in a grid, row by row, each pixel drawn sharp.

    Between the images it is transparent.

    Args:
        images: (N, H, W, 3) uint8.
        columns: images in a row.
    """
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    sheet = Image.new("RGBA", (columns * (width + 2), rows * (height + 2)))
    for number, image in enumerate(images.cpu()):
        row, column = divmod(number, columns)
        place = (column * (width + 2) + 1, row * (height + 2) + 1)
        sheet.paste(Image.fromarray(image.numpy()), place)
    file = BytesIO()
    sheet.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<img alt="{count} images of {height} by {width} pixels" '
        f'style="width: 100%; image-rendering: pixelated" src="data:image/png;base64,{data}">'
    )
