"""Crops of encoded images, by Pillow, as torchvision's transforms make them."""

import io
import math

import numpy as np

from fbq.data import DataError

_TRIES = 10
# Modes of Pillow that have 8 bits or fewer for each colour.
_EIGHT_BITS = (
  *("1", "L", "LA", "P", "PA", "RGB", "RGBA"),
  *("CMYK", "YCbCr", "HSV"),
)


def random_crop(
  encoded: bytes, name: str, resolution: int, random: np.random.Generator
) -> np.ndarray:
  """uint8 [R, R, 3]: a random part of the image, half of them mirrored.

  The part has 8 to 100 % of the image's pixels and sides of ratio 3/4 to 4/3
  (torchvision's RandomResizedCrop; arXiv 1409.4842, section 6), resized
  bilinearly.

  Raises:
    DataError: the image cannot be decoded, or has pixels of more bits than can
      be told to be meant; `name` says which.
  """
  image = decoded(encoded, name)
  image = image.crop(random_box(*image.size, random))
  image = image.resize((resolution, resolution), _bilinear())
  pixels = np.asarray(image)
  return pixels[:, ::-1] if random.random() < 0.5 else pixels


def random_box(
  width: int, height: int, random: np.random.Generator
) -> tuple[int, int, int, int]:
  """(left, top, right, bottom) of the part that `random_crop` takes."""
  for _ in range(_TRIES):
    area = width * height * random.uniform(0.08, 1)
    ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
    columns = round(math.sqrt(area * ratio))
    rows = round(math.sqrt(area / ratio))
    if 0 < columns <= width and 0 < rows <= height:
      left = int(random.integers(0, width - columns + 1))
      top = int(random.integers(0, height - rows + 1))
      return left, top, left + columns, top + rows
  # A long image: its middle, as near to it as the ratios allow.
  columns = min(width, round(height * 4 / 3))
  rows = min(height, round(width * 4 / 3))
  left, top = (width - columns) // 2, (height - rows) // 2
  return left, top, left + columns, top + rows


def center_crop(
  encoded: bytes, name: str, resolution: int, resize: int
) -> np.ndarray:
  """uint8 [R, R, 3]: the middle, after the shorter side became `resize`.

  Raises:
    DataError: the image cannot be decoded, or has pixels of more bits than can
      be told to be meant; `name` says which.
  """
  image = decoded(encoded, name)
  width, height = image.size
  if width <= height:
    size = resize, int(resize * height / width)
  else:
    size = int(resize * width / height), resize
  image = image.resize(size, _bilinear())
  left = round((size[0] - resolution) / 2)
  top = round((size[1] - resolution) / 2)
  return np.asarray(
    image.crop((left, top, left + resolution, top + resolution))
  )


def middle(
  encoded: bytes,
  name: str,
  shape: tuple[int, int, int],
  share: float = 0.875,
) -> np.ndarray:
  """uint8 [H, W, C]: the middle of an image, as large as its sides allow.

  The image is resized so that the part that is cut out has `share` of its
  tighter side: 224 of 256 pixels, as published networks are tested.

  Args:
    encoded: content of the file.
    name: where it is, for messages.
    shape: (height, width, channels); one channel is grey, three are colours.
    share: 0 to 1.

  Raises:
    DataError: see `center_crop`; or a network of neither 1 nor 3 channels.
  """
  height, width, channels = shape
  if channels not in (1, 3):
    raise DataError(
      f"image {name}: a network of {channels} channels reads no pictures; "
      "expected arrays (.npz) or raw inputs (.bin)"
    )
  image = decoded(encoded, name)
  if image.size == (width, height):  # made for the network: nothing to cut
    share = 1.0
  scale = max(height / image.height, width / image.width) / share
  size = (
    max(width, round(scale * image.width)),
    max(height, round(scale * image.height)),
  )
  image = image.resize(size, _bilinear())
  left, top = (size[0] - width) // 2, (size[1] - height) // 2
  image = image.crop((left, top, left + width, top + height))
  if channels == 1:
    return np.asarray(image.convert("L"))[:, :, None]
  return np.asarray(image)


def verify(encoded: bytes, name: str) -> None:
  """Raises DataError unless the image can be decoded as a whole."""
  decoded(encoded, name)


def decoded(encoded: bytes, name: str):
  """The picture in RGB, of PIL; DataError if it cannot be decoded."""
  from PIL import Image  # An extra; matplotlib brings it too.

  try:
    image = Image.open(io.BytesIO(encoded))
    image.load()
  except Exception as error:  # A damaged file can raise anything.
    said = str(error).partition(" <_io.")[0]  # no address in memory
    raise DataError(
      f"image {name} is damaged ({len(encoded):,} bytes): "
      f"{type(error).__name__}: {said}; fetch it again, or move it "
      "out of the data set"
    ) from error

  # Pillow clips what has more than 8 bits, and says nothing.
  if image.mode.startswith("I;16") or (
    image.mode == "I" and image.format == "PNG"  # of Pillow before 11.3
  ):
    return _from_16_bits(np.asarray(image), name)
  if image.mode not in _EIGHT_BITS:
    raise DataError(
      f"image {name} has pixels of Pillow's mode {image.mode!r}, expected 8 "
      "bits of grey or colours, or 16 of grey: convert it to 8 bits"
    )
  if image.mode == "P" and "transparency" in image.info:
    image = image.convert("RGBA")  # the same colours, without a warning
  return image.convert("RGB")  # drops transparency, as torchvision does


def _from_16_bits(grey, name):
  """A picture in 8 bits of [H, W] numbers of 16, of which 65,535 is white."""
  from PIL import Image

  brightest = int(grey.max(initial=0))
  if 0 < brightest < 4096:
    raise DataError(
      f"image {name} has 16 bits, of which it uses {brightest.bit_length()}: "
      "all of it would be nearly black; convert it to 8 bits in the range that "
      "is meant"
    )
  eight = np.rint(grey / 257).astype(np.uint8)
  return Image.fromarray(eight).convert("RGB")


def _bilinear():
  from PIL import Image

  return Image.Resampling.BILINEAR
