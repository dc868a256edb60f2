"""Pictures as arrays of bytes: written to files and movies, set side by side, captioned."""

from __future__ import annotations

from pathlib import Path

import helper
from helper import UserError

import numpy as np

IMAGES = (".png", ".jpg", ".jpeg")
MOVIE_FRAME = 1000 / 15  # milliseconds


def check_image(path, background: str, inputs=()) -> Path:
    """`path` as a Path; raises UserError where a picture cannot be written there.

    background: "white" or "transparent"; inputs: files that it must not replace.
    """
    path = helper.check_writable(path, IMAGES, inputs)
    if background != "white" and path.suffix.lower() != ".png":
        raise UserError(f"{path}: jpeg has no transparency; take .png, or a white background")
    return path


def check_folder(path) -> Path:
    """`path` as a Path; raises UserError where a folder of pictures cannot have that name."""
    path = Path(path)
    if path.suffix.lower() in IMAGES or path.is_file():
        raise UserError(f"{path}: a folder is needed for the pictures, and this names a file")
    return path


def save(path, image: np.ndarray) -> None:
    """Write a picture (height, width, 3 or 4) uint8 as .png or, with 3, .jpeg."""
    from PIL import Image

    with helper.replacing(path) as temporary:
        Image.fromarray(image).save(temporary, quality=95)


def save_movie(path, frames: list) -> None:
    """Write pictures (height, width, 3 or 4) uint8 as a .gif that repeats."""
    from PIL import Image

    first, *others = map(Image.fromarray, frames)
    with helper.replacing(path) as temporary:
        first.save(temporary, save_all=True, append_images=others, duration=MOVIE_FRAME, loop=0,
                   disposal=2)  # each frame replaces the one before, also where it is transparent


def side_by_side(images: list, background: str) -> np.ndarray:
    """Pictures of one height in a row, from left to right.

    images: (height, w, 3 or 4) uint8. The result is (height, sum of w, 3) on a "white" background
    and (height, sum of w, 4) on a "transparent" one.
    """
    row = []
    for image in images:
        rgb = image[..., :3]
        alpha = np.full(image.shape[:2], 255, np.uint8)
        if image.shape[2] == 4:
            alpha = image[..., 3]
        if background == "white":
            share = alpha[..., None] / 255
            row.append(np.round(share * rgb + (1 - share) * 255).astype(np.uint8))
        else:
            row.append(np.dstack([rgb, alpha]))
    return np.concatenate(row, axis=1)


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """A picture (height, width, 3 or 4) uint8 with a line of text below it. Text that is too long
    loses its middle."""
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    height, width, channels = image.shape
    line = max(12, height // 28)  # pixels
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), line)  # has most scripts
    while font.getlength(text) > 0.95 * width and len(text) > 3:
        half = (len(text) - 2) // 2
        text = f"{text[:half]}…{text[-half:]}"
    blank = (255,) * 3 + (0,) * (channels - 3)
    canvas = Image.new("RGB" if channels == 3 else "RGBA", (width, height + 2 * line), blank)
    canvas.paste(Image.fromarray(image))
    ImageDraw.Draw(canvas).text((width / 2, height + line), text, fill=(60, 60, 60), anchor="mm",
                                font=font)
    return np.asarray(canvas)
