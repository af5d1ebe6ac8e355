"""Networks out of files in experiments, and beside their runtimes."""

import sys

import deploy_cases
import jax
import numpy as np
import onnx
import pytest
from lab_cases import checked
from onnx_writer import Writer, write

from fbq.config import ConfigError
from fbq.lab import imported, networks, pretrained
from fbq.lab.settings import NetSettings
from fbq.model import Model
from tests.configs import tiny

NET = deploy_cases.MIX


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  path = tmp_path_factory.mktemp("files") / "net.onnx"
  model = write(NET, deploy_cases.variables(NET))
  path.write_bytes(model.SerializeToString())
  return path


def test_a_network_is_that_of_its_runtime(path):
  found = imported.checked(path)
  assert found.net.workload.macs == NET.workload.macs
  comparison = imported.compare(found, path)
  assert 0 < comparison.relative < 1e-5
  assert comparison.same_classes == 1 and comparison.equal_codes is None
  assert imported.checked(path) is found  # read once


def tampered(path):
  """The network of a file with one weight that is 1 % larger."""
  found = imported.from_onnx.read(path)
  params = dict(found.variables["params"])
  name = next(iter(params))
  params[name] = params[name] * np.float32(1.01)
  return found._replace(variables={**found.variables, "params": params})


def test_a_network_that_is_not_that_of_its_file_is_refused(
  path, tmp_path, monkeypatch
):
  other = tmp_path / "other.onnx"
  other.write_bytes(path.read_bytes())
  monkeypatch.setitem(imported.READERS, ".onnx", tampered)
  with pytest.raises(ValueError, match="is not that of the file: largest"):
    imported.checked(other)


def test_what_is_printed(path, monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["imported", str(path)])
  imported.main()
  printed = capsys.readouterr().out.splitlines()
  assert printed[1].split() == [
    *("conv1", "conv", "9x8x8", "6,912", "96", "/a"),
  ]
  assert printed[-2] == (
    f"net: images of 9x8x2, {NET.workload.macs:,} MACs, "
    f"{NET.parameter_count:,} parameters"
  )
  assert printed[-1].startswith("largest difference ")
  monkeypatch.setattr(sys, "argv", ["imported", "net.pt"])
  with pytest.raises(SystemExit, match="expected a file that ends in .onnx"):
    imported.main()


def test_codes_of_a_quantized_file_are_compared(tmp_path):
  pytest.importorskip("ai_edge_litert")  # fbq[tflite]
  from from_tflite_test import quantized

  file = quantized(tmp_path)
  comparison = imported.compare(imported.checked(file), file)
  # Its numbers are multiples of 1/8 in steps of 0.1, or clipped by the runtime.
  assert comparison.equal_codes == comparison.same_classes == 1


# ---- as the network of an experiment


def file_for(tmp_path):
  """A file that reads digits, in a range of its own."""
  random = np.random.default_rng(0)
  w = Writer()
  x = w.node("Sub", ["image", w.array("mean", 0.5)], "moved")
  x = w.node("Mul", [x, w.array("factor", 4.0)], "scaled")
  weights = [
    w.array(name, random.normal(size=shape))
    for name, shape in (("w", (4, 1, 4, 4)), ("m", (4 * 49, 10)))
  ]
  x = w.node("Conv", [x, weights[0], w.array("b", [0.1] * 4)], "c")
  x = w.node("Relu", [x], "r")
  x = w.node("MaxPool", [x], "p", kernel_shape=[2, 2], strides=[4, 4])
  x = w.node("Gemm", [w.node("Flatten", [x], "f"), weights[1]], "out")
  path = tmp_path / "digits.onnx"
  path.write_bytes(w.model((1, 32, 32), x).SerializeToString())
  return path


def settings_for(path):
  config = tiny.get_config()
  config.net = dict(builder="onnx", arguments=dict(file=str(path)))
  config.float_checkpoint = str(path)
  return config


def test_a_file_is_the_network_and_the_checkpoint_of_an_experiment(tmp_path):
  path = file_for(tmp_path)
  settings, lab = checked(settings_for(path))
  found = imported.read(path)
  assert lab.net == found.net
  variables, report = pretrained.load(settings, lab.net)
  assert len(report.matched) == 3 and not report.missing
  assert variables["batch_stats"] == {}  # as of every network without norms

  # Images are in [0, 1]: what the file does to them is in the first layer.
  x = np.random.default_rng(0).uniform(size=(2, 32, 32, 1))
  apply = jax.jit(lambda v, x: Model(lab.net).apply(v, x, False))
  logits = apply(variables, x.astype(np.float32))
  expected = apply(found.variables, ((x - 0.5) * 4).astype(np.float32))
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)

  # Images of another range before it.
  again, _ = pretrained.load(
    settings.with_(checkpoint_images=((0.5,), (0.25,))), lab.net
  )
  logits = apply(again, x.astype(np.float32))
  expected = apply(
    found.variables, (((x - 0.5) / 0.25 - 0.5) * 4).astype(np.float32)
  )
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_file_that_pads_is_exact_at_the_border(tmp_path):
  """As the file on (x - mean) / std, padded with zeros."""
  w = Writer()
  weights = w.array("w", np.random.default_rng(0).normal(size=(4, 1, 5, 5)))
  x = w.node("Conv", ["image", weights, w.array("b", [0.1] * 4)], "c",
             pads=[2] * 4, strides=[4, 4])  # fmt: skip
  x = w.node("Flatten", [x], "f")
  head = w.array("m", np.random.default_rng(1).normal(size=(256, 10)))
  path = tmp_path / "digits.onnx"
  out = w.node("MatMul", [x, head], "out")
  path.write_bytes(w.model((1, 32, 32), out).SerializeToString())

  config = settings_for(path)
  images = dict(mean=(51 / 255,), std=(0.25,))
  config.net.arguments.update(images)
  config.checkpoint_images = tuple(images.values())
  settings, lab = checked(config)
  assert lab.net.image_zero == (51,)
  variables, _ = pretrained.load(settings, lab.net)
  x = np.random.default_rng(0).uniform(size=(2, 32, 32, 1))
  found = imported.read(path)
  expected = Model(found.net).apply(
    found.variables, np.float32((x - 0.2) / 0.25), False
  )
  logits = Model(lab.net).apply(variables, np.float32(x), False)
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-3)

  # The network has to be told of the images too.
  del config.net.arguments["mean"]
  with pytest.raises(ConfigError, match="'mean': "):
    checked(config)


def test_a_file_of_another_network_is_refused(path, tmp_path):
  config = settings_for(file_for(tmp_path))
  config.float_checkpoint = str(path)
  with pytest.raises(
    ConfigError, match="its network is not 'digits' as that is set; exp"
  ):
    checked(config)


@pytest.mark.parametrize(
  ("builder", "file", "message"),
  [("onnx", "no.onnx", "no.onnx: there is no such file"),
   ("tflite", "no.tflite", "no.tflite: there is no such|fbq.tflite"),
   ("onnx", 3, "config.net.builder 'onnx'")],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_an_error_of_the_config(
  builder, file, message
):
  settings = NetSettings(builder=builder, arguments={"file": file})
  with pytest.raises(ConfigError, match=message):
    networks.build(settings)


def test_what_is_no_file_of_a_network_takes_a_line_that_says_what_is(
  path, tmp_path
):
  (tmp_path / "folder.onnx").mkdir()
  for name in ("empty.onnx", "empty.tflite", "net.pt"):
    (tmp_path / name).write_bytes(b"")
  for name, message in (
    ("folder.onnx", "folder.onnx: is a folder, expected a file in it"),
    ("empty.onnx", "empty.onnx: is empty"),
    ("empty.tflite", "empty.tflite: is empty|fbq.tflite"),
    ("net.pt", "ends in .onnx, .tflite; torch.onnx.export makes one"),
  ):
    with pytest.raises((ValueError, ModuleNotFoundError), match=message) as e:
      imported.read(tmp_path / name)
    assert str(e.value).count(name) == 1

  # A system that writes names in capitals, and a file without sizes
  capitals = tmp_path / "NET.ONNX"
  capitals.write_bytes(path.read_bytes())
  assert imported.read(capitals).net.nodes == imported.read(path).net.nodes
  model = onnx.load(path)
  model.graph.input[0].type.tensor_type.ClearField("shape")
  onnx.save(model, tmp_path / "bare.onnx")
  with pytest.raises(ValueError, match="export the network with a fixed h"):
    imported.read(tmp_path / "bare.onnx")


def test_a_file_of_a_newer_onnx_is_run_all_the_same(path, tmp_path):
  """The newest form, which the runtime need not know: its operators are old."""
  newer = tmp_path / "newer.onnx"
  model = onnx.load(path)
  model.ir_version = onnx.IR_VERSION
  newer.write_bytes(model.SerializeToString())
  found = imported.checked(newer)
  assert found.net.nodes == imported.checked(path).net.nodes


def test_why_a_runtime_cannot_run_a_file_is_told(path, tmp_path):
  """The reason stands at the end of what ONNX Runtime says."""
  broken = tmp_path / "broken.onnx"
  model = onnx.load(path)
  model.opset_import[0].version = 99
  broken.write_bytes(model.SerializeToString())
  found = imported.from_onnx.read(path)
  with pytest.raises(ValueError, match=r"cannot run it: .*opset \d+") as error:
    imported.compare(found, broken)
  assert "\n" not in str(error.value) and len(str(error.value)) < 500
