"""Pictures of every kind look as they are meant, or are refused by name."""

import io
import shutil
import warnings

import image_cases
import numpy as np
import pytest
from PIL import Image

from fbq.data import DataError, image_files, pictures

RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
GREY = Image.fromarray(RAMP)
COLOUR = Image.merge("RGB", [GREY, GREY.transpose(0), GREY.point(lambda _: 90)])


def encoded(image, kind="PNG", **how):
  file = io.BytesIO()
  image.save(file, kind, **how)
  return file.getvalue()


def crop(content):
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    return pictures.center_crop(content, "n0/it.png", 32, 36).astype(int)


def with_alpha(image, mode):
  image = image.convert(mode)
  image.putalpha(Image.fromarray(RAMP[:, ::-1].copy()))
  return image


# Images and what they show.
LOOK = {
  "16 bits of grey": (
    encoded(Image.fromarray(RAMP.astype(np.uint16) * 257)),
    GREY,
  ),
  "16 bits in TIFF": (
    encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), "TIFF"),
    GREY,
  ),
  "grey": (encoded(GREY), GREY),
  "grey and alpha": (encoded(with_alpha(GREY, "L")), GREY),
  "grey and one transparent number": (encoded(GREY, transparency=7), GREY),
  "colour": (encoded(COLOUR), COLOUR),
  "colour and alpha": (encoded(with_alpha(COLOUR, "RGB")), COLOUR),
  "colour and a transparent one": (
    encoded(COLOUR, transparency=(1, 2, 3)),
    COLOUR,
  ),
  "palette": (encoded(GREY.convert("P")), GREY),
  "palette and alphas": (
    encoded(GREY.convert("P"), transparency=bytes(range(256))),
    GREY,
  ),
  "palette and a transparent colour": (
    encoded(GREY.convert("P"), transparency=3),
    GREY,
  ),
  "palette with alpha": (encoded(with_alpha(GREY, "P"), "TIFF"), GREY),
  "one bit": (encoded(GREY.convert("1")), GREY.convert("1")),
  "CMYK": (encoded(COLOUR.convert("CMYK"), "TIFF"), COLOUR),
  "YCbCr": (encoded(COLOUR.convert("YCbCr"), "TIFF"), COLOUR),
}


@pytest.mark.parametrize("name", LOOK)
def test_every_mode_looks_as_it_is_meant(name):
  content, shown = LOOK[name]
  apart = np.abs(crop(content) - crop(encoded(shown.convert("RGB"))))
  # Two conversions of colours round.
  assert apart.max() <= (3 if "C" in name else 0)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (encoded(Image.fromarray(RAMP.astype(np.uint16) * 16)), "16 bits.*uses 12"),
    (encoded(Image.fromarray(RAMP.astype(np.uint16))), "16 bits.*uses 8:"),
    (encoded(GREY.convert("F"), "TIFF"), "mode 'F', expected 8 bits"),
    (encoded(GREY.convert("I"), "TIFF"), "mode 'I', expected 8 bits"),
    (encoded(Image.new("LAB", (64, 48)), "TIFF"), "mode 'LAB', expected"),
    (encoded(COLOUR)[:100], "damaged"),
    (encoded(COLOUR, "JPEG")[:200], "damaged"),
    (b"", "damaged"),
    (b"GIF89a", "damaged"),
  ],
)
def test_what_is_not_known_to_look_so_is_refused(content, message):
  for read in (
    crop,
    lambda c: pictures.verify(c, "n0/it.png"),
    lambda c: pictures.random_crop(
      c, "n0/it.png", 16, np.random.default_rng(0)
    ),
  ):
    with pytest.raises(DataError, match=f"image n0/it.png .*{message}"):
      read(content)


def test_black_in_16_bits_is_black():
  assert not crop(encoded(Image.fromarray(np.zeros((48, 64), np.uint16)))).any()


# ---- folders


@pytest.fixture
def folder(tmp_path):
  return image_cases.write(tmp_path / "data")


LEFT = [
  "._0.JPEG",
  ".DS_Store",
  ".hidden.png",
  ".ipynb_checkpoints/0-checkpoint.JPEG",
  "@eaDir/0.JPEG/SYNOPHOTO_THUMB_B.jpg",
  "__MACOSX/n01440764/._0.JPEG",
  "Thumbs.db",
  "Desktop.ini",
  "$RECYCLE.BIN/0.JPEG",
  "System Volume Information/0.JPEG",
  "lost+found/0.JPEG",
  ".Trash-1000/files/0.JPEG",
  "Icon\r",
]


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.parametrize("place", ["", "n01440764"])
def test_what_systems_leave_behind_is_no_image_and_no_class(
  folder, name, place
):
  before = image_files.open_split(folder, "train")
  for split in image_files.SPLITS:
    path = folder / split / place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image_cases.picture(0, 9, 9))
  image_files.check_directory(folder)
  after = image_files.open_split(folder, "train")
  assert after.classes == before.classes == image_cases.CLASSES
  assert after.names == before.names
  np.testing.assert_array_equal(after.labels, before.labels)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("train/n01440764/x.webp", "n01440764/x.webp is of another format"),
    ("val/n02102040/x.BMP", "n02102040/x.BMP is of another format"),
    ("train/n01440764/more/0.JPEG", "n01440764/more is a folder in the folder"),
    ("val/n01440764/0.JPEG/0.JPEG", "0.JPEG is a folder in the folder"),
    ("train/0.JPEG", "0.JPEG is an image that lies in train/ itself"),
    ("val/0.tiff", "0.tiff is an image that lies in val/ itself"),
  ],
)
def test_images_are_not_passed_over_without_a_word(folder, name, message):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(image_cases.picture(0, 9, 9))
  with pytest.raises(DataError, match=message):
    image_files.check_directory(folder)


def test_notes_and_empty_folders_beside_images_do_not_matter(folder):
  (folder / "train" / "n01440764" / "labels.csv").write_text("a,b\n")
  (folder / "train" / "README.txt").write_text("where these are from\n")
  (folder / "val" / "n01440764" / "empty").mkdir()
  image_files.check_directory(folder)
  assert len(image_files.open_split(folder, "train")) == 15


def test_a_class_that_val_lacks_is_named_before_anything_runs(folder):
  shutil.rmtree(folder / "val" / "n02102040")
  with pytest.raises(DataError, match="val/n02102040 has no images"):
    image_files.check_directory(folder)


def test_a_home_directory_is_a_place_of_images(folder, monkeypatch):
  monkeypatch.setenv("HOME", str(folder.parent))
  image_files.check_directory("~/data")
  assert len(image_files.open_split("~/data", "val")) == 9
