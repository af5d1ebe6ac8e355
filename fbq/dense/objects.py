"""The objects of an image: boxes, classes and masks, filled up."""

from typing import Any, NamedTuple


class Objects(NamedTuple):
  """What is to be found in `B` images of at most `G` objects each.

  Rows that are no objects fill up, so that every image has `G`.

  Attributes:
    boxes: float32 [B, G, 4], left, top, right, bottom, in pixels.
    classes: int32 [B, G].
    is_object: bool [B, G], which rows are objects.
    is_crowd: bool [B, G], objects that stand for many: they are not trained on,
      and what is found in them is neither right nor wrong.
    masks: bool [B, G, H, W]; None where nobody asks for them.
  """

  boxes: Any
  classes: Any
  is_object: Any
  is_crowd: Any
  masks: Any = None
