"""Files of PyTorch, in both of their forms, written here by pickle itself."""

import collections
import io
import pickle
import sys
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest

from fbq.train import torch_file, torch_weights

WEIGHT = np.arange(12, dtype=np.float32)
HALVES = np.array([1.5, -2.0, 0.25], ml_dtypes.bfloat16)


class Stored:
  """A storage, which pickles refer to by name."""

  def __init__(self, kind, key, count):
    self.pid = ("storage", kind, key, "cpu", count)


class Tensor:
  """What is pickled as `torch._utils._rebuild_tensor_v2(*arguments)`."""

  def __init__(self, function, *arguments):
    self.function, self.arguments = function, arguments

  def __reduce__(self):
    return self.function, self.arguments


class Pickler(pickle.Pickler):
  def persistent_id(self, obj):
    return obj.pid if isinstance(obj, Stored) else None


@pytest.fixture
def torch(monkeypatch):
  """As much of PyTorch's modules as pickles name."""
  torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
  exec(
    "def _rebuild_tensor_v2(*given): pass\n"
    "def _rebuild_parameter(*given): pass",
    utils.__dict__,
  )
  for name in ("FloatStorage", "BFloat16Storage"):
    setattr(torch, name, type(name, (), {"__module__": "torch"}))
  monkeypatch.setitem(sys.modules, "torch", torch)
  monkeypatch.setitem(sys.modules, "torch._utils", utils)
  torch._utils = utils
  return torch


def tree_of(torch):
  """A state dict in a dict: a transposed view, a parameter, half precision."""
  make = torch._utils._rebuild_tensor_v2
  whole = Stored(torch.FloatStorage, "0", 12)
  halves = Stored(torch.BFloat16Storage, "1", 3)
  state = collections.OrderedDict()
  state["module.a.weight"] = Tensor(
    *(make, whole, 1, (5, 2), (1, 5), False, collections.OrderedDict())
  )
  state["b"] = Tensor(
    torch._utils._rebuild_parameter,
    *(Tensor(make, halves, 0, (3,), (1,), False, {}), True, {}),
  )
  state._metadata = {"version": 1}
  return {"epoch": 7, "state_dict": state, "empty": None}


def pickled(value):
  raw = io.BytesIO()
  Pickler(raw, protocol=2).dump(value)
  return raw.getvalue()


def zipped(path, tree):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("net/data.pkl", pickled(tree))
    archive.writestr("net/data/0", WEIGHT.tobytes())
    archive.writestr("net/data/1", HALVES.tobytes())
    archive.writestr("net/version", b"3\n")


def older(path, tree, cut=0):
  parts = [torch_file.MAGIC, 1001, {"little_endian": True}, tree, ["1", "0"]]
  raw = b"".join(map(pickled, parts))
  for numbers in (HALVES, WEIGHT):
    raw += len(numbers).to_bytes(8, "little") + numbers.tobytes()
  path.write_bytes(raw[: len(raw) - cut])


@pytest.mark.parametrize("write", [zipped, older])
def test_tensors_are_read_from_all_dicts(torch, tmp_path, write):
  path = tmp_path / "net.pth"
  write(path, tree_of(torch))
  found = torch_file.read(path)
  assert list(found) == ["state_dict.module.a.weight", "state_dict.b"]
  weight, halves = found.values()
  np.testing.assert_array_equal(weight, WEIGHT[1:11].reshape(2, 5).T)
  assert halves.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(halves, HALVES)
  # As every checkpoint, without the names of wrappers
  assert "state_dict.a.weight" in torch_weights.read(path)


class Runs:
  def __reduce__(self):
    return print, ("it ran",)


@pytest.mark.parametrize("write", [zipped, older])
def test_what_would_run_is_refused(torch, tmp_path, write, capsys):
  path = tmp_path / "net.pth"
  write(path, {"a": Runs()})
  with pytest.raises(ValueError, match=r"asks for \w+\.print") as caught:
    torch_weights.read(path)
  assert "\n" not in str(caught.value) and not capsys.readouterr().out


@pytest.mark.parametrize(
  ("offset", "shape", "strides"),
  [
    (0, (13,), (1,)),
    (11, (2,), (1,)),
    (0, (2, 2), (100, 1)),
    (-1, (2,), (1,)),
    (0, (2,), (-1,)),
    (0, (-2,), (1,)),
    (0, (2**40,), (0,)),
    (0, (2, 2), (1,)),
  ],
)
def test_views_beyond_their_numbers_are_refused(
  torch, tmp_path, offset, shape, strides
):
  make, path = torch._utils._rebuild_tensor_v2, tmp_path / "net.pt"
  whole = Stored(torch.FloatStorage, "0", 12)
  zipped(path, {"a": Tensor(make, whole, offset, shape, strides, False, {})})
  with pytest.raises(ValueError, match="holds other than tensors, or is cut"):
    torch_file.read(path)


def test_files_that_are_cut_are_refused(torch, tmp_path):
  path = tmp_path / "net.pth"
  for cut in (1, 40, 60, 200):
    older(path, tree_of(torch), cut)
    with pytest.raises(ValueError, match="or is cut"):
      torch_file.read(path)
  for raw in (b"", b"PK", b"\x80\x02K\x01."):
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="or is cut"):
      torch_file.read(path)
