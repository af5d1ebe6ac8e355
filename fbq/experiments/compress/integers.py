"""The recommended assignment as integers, and as files for other programs."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from fbq.deploy import (
  artifact,
  c_code,
  faithful,
  integer,
  lowering,
  onnx_qdq,
)
from fbq.experiments.compress.results import Integers
from fbq.files import write_atomically
from fbq.lab.lab import Lab
from fbq.lab.subject import Part

_WIDTH = 64  # of requantization: hardly a code differs
_GOLDEN = 4  # images that the C checks itself on
_FOLDER = "export"


def export(
  lab: Lab,
  assignment: Mapping[str, int],
  variables: Mapping[str, Any],
  test: Part,
) -> Integers:
  """Lowers an assignment, compares it with the simulated one, writes files.

  Args:
    lab: network and workdir.
    assignment: bits of every site.
    variables: its variables under `Fixed`.
    test: inputs that both are compared on.
  """
  folder = lab.workdir / _FOLDER
  folder.mkdir(exist_ok=True)
  failed: dict[str, str] = {}
  left_out: dict[str, str] = {}

  def attempt(part: str, make: Callable[[], Any]) -> Any:
    try:
      return make()
    except OSError:
      raise  # a full disk is no fault of the part
    except lowering.UnsupportedError as error:
      left_out[part] = str(error)
      return None
    except Exception as error:  # ONNX has errors of its own
      failed[part] = " ".join(str(error).split()) or type(error).__name__
      lab.log.say(f"{part}: failed: {failed[part]}")
      return None

  # Integers first: all files are made of them
  images = jnp.asarray(test.images)
  network = attempt(
    "integers",
    lambda: lowering.lower(lab.net, variables, assignment, _WIDTH),
  )
  if network is None:
    return Integers((), len(images), 0, 0.0, {}, failed, left_out)
  faith = faithful.compare(network, variables, images)
  files = []

  if attempt("network.json", lambda: artifact.save(network, folder)):
    files += ["network.json", "weights.npz"]

  def write_onnx():
    content = onnx_qdq.build(network).SerializeToString()
    write_atomically(folder / "qdq.onnx", content)
    return True

  if attempt("ONNX", write_onnx):
    files.append("qdq.onnx")

  golden = np.asarray(integer.quantize_images(images[:_GOLDEN]))
  if attempt("C", lambda: c_code.write(network, folder / "c", golden)):
    files.append("c/")
  right = faith.classes == np.asarray(test.labels)
  return Integers(
    tuple(f"{_FOLDER}/{name}" for name in files),
    len(images),
    faith.same_class,
    float(right.mean()),
    artifact.sizes(network),
    failed,
    left_out,
  )
