"""Pictures are put together and written without a change of what they show."""

from helper import UserError
from igr.view import images

import numpy as np
from PIL import Image
import pytest


def plain(color, width=40, height=60):
    return np.tile(np.array(color, np.uint8), (height, width, 1))


def test_pictures_stand_side_by_side():
    red = plain([255, 0, 0])
    half = plain([0, 0, 255, 128], width=20)
    white = images.side_by_side([red, half], "white")
    assert white.shape == (60, 60, 3) and (white[:, :40] == red).all()
    assert (white[:, 40:] == [127, 127, 255]).all()
    clear = images.side_by_side([red, half], "transparent")
    assert (clear[:, :40] == [255, 0, 0, 255]).all() and (clear[:, 40:] == half).all()


@pytest.mark.parametrize("color", [[255, 0, 0], [255, 0, 0, 255]])
@pytest.mark.parametrize("text", ["name", "a name that is by far too long for the picture"])
def test_caption_stands_below(color, text):
    image = plain(color, width=100)
    below = images.captioned(image, text)
    assert below.shape == (84, 100, len(color)) and (below[:60] == image).all()
    dark = (below[60:, :, 0] < 150) & (below[60:, :, -1] > 100 if len(color) == 4 else True)
    assert dark.any() and not dark[:, 0].any() and not dark[:, -1].any()


def test_images_and_movies_are_written(tmp_path):
    image = plain([10, 200, 30, 128])
    images.save(tmp_path / "a.png", image)
    assert (np.asarray(Image.open(tmp_path / "a.png")) == image).all()
    images.save_movie(tmp_path / "a.gif", [plain([255, 0, 0]), plain([0, 0, 255])])
    movie = Image.open(tmp_path / "a.gif")
    assert movie.n_frames == 2 and movie.size == (40, 60) and movie.info["loop"] == 0


def test_frames_of_a_transparent_movie_replace_each_other(tmp_path):
    frames = np.zeros((2, 60, 40, 4), np.uint8)
    frames[0, :30] = frames[1, 30:] = [255, 0, 0, 255]
    images.save_movie(tmp_path / "a.gif", list(frames))
    movie = Image.open(tmp_path / "a.gif")
    for i, frame in enumerate(frames):
        movie.seek(i)
        assert (np.asarray(movie.convert("RGBA"))[..., 3] == frame[..., 3]).all()


def test_names_are_checked_before_the_work(tmp_path):
    assert images.check_image(tmp_path / "a.PNG", "transparent") == tmp_path / "a.PNG"
    with pytest.raises(UserError, match="no transparency"):
        images.check_image(tmp_path / "a.jpg", "transparent")
    (tmp_path / "file").touch()
    assert images.check_folder(tmp_path / "folder.v2") == tmp_path / "folder.v2"
    for taken in ("file", "a.png"):
        with pytest.raises(UserError, match="folder is needed"):
            images.check_folder(tmp_path / taken)
