"""Files of a network in block floating point: the same one, or a refusal."""

import functools
import json

import bfp_oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deploy_cases import MIX, variables

from fbq import block_formats
from fbq.deploy import artifact, block_artifact
from fbq.deploy.files import ArtifactError
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.quantizers import bfp, bfp_codes
from fbq.schemes.block_float import BlockFloat, Data, window_axes
from hwsim.bfp.formats import FP32, bitq_format, block_format

GRID = BlockFloat((1, 4, 8))
SITES = MIX.workload.sites
CHOICES = (
  *(bitq_format(8, 2, 4), bitq_format(8, 6, 8), bitq_format(16, 5, 1)),
  *(block_format(4, 8, 8), FP32),
)


@functools.cache
def trained():
  """Variables, some of which few exponent bits cannot hold."""
  found = variables(MIX)
  params = dict(found["params"])
  kernel = params["a_kernel"].copy()
  kernel[:, :, :, 0] *= np.float32(2.0**-9)
  kernel[0, 0, 0, 0] = 2.0**-140  # counts as zero
  params["a_kernel"] = kernel
  return {"params": params, "batch_stats": found["batch_stats"]}


def mixed(seed=0):
  random = np.random.default_rng(seed)
  formats = {s: CHOICES[random.integers(len(CHOICES))] for s in SITES}
  tops = random.integers(-1, 3, len(SITES)).astype(np.int32)
  rows = block_formats.to_array(MIX, formats)
  return Data(jnp.asarray(rows), jnp.asarray(tops))


def encoded(scheme=GRID, seed=0):
  return block_artifact.encode(MIX, trained(), mixed(seed), scheme)


def uniform(format_, scheme=GRID):
  rows = block_formats.to_array(MIX, block_formats.uniform(MIX, format_))
  data = Data(jnp.asarray(rows), jnp.zeros(len(SITES), jnp.int32))
  return block_artifact.encode(MIX, trained(), data, scheme)


def test_what_is_loaded_is_what_was_saved(tmp_path):
  network = encoded()
  block_artifact.save(network, tmp_path)
  found = block_artifact.load(tmp_path)
  assert found.net == MIX and found.scheme == GRID
  np.testing.assert_array_equal(found.formats, network.formats)
  np.testing.assert_array_equal(found.tops, network.tops)
  jax.tree.map(bfp_oracle.assert_same_bits, found.variables, network.variables)
  # Saving what was loaded gives the same files.
  again = tmp_path / "again"
  block_artifact.save(found, again)
  for name in ("network.json", "weights.npz"):
    assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_loaded_network_computes_the_logits_of_the_trained_one(tmp_path):
  """Also with a layer scale and a layer norm, which are kept in float32."""
  net = Net(
    "small",
    (6, 6, 2),
    (
      Node("a", "conv", ("input",), 8, (3, 3), 2, norm=True, activation="relu"),
      Node("b", "depthwise", ("a",), kernel=(2, 2), bias=True, layer_scale=1.0),
      Node("c", "layer_norm", ("b",)),
      Node("fc", "linear", ("c",), 3, bias=True, is_output=True),
    ),
  )
  random, scheme = np.random.default_rng(0), BlockFloat((1, 8))
  x = jnp.asarray(random.random((4, 6, 6, 2), np.float32))
  shapes = jax.eval_shape(lambda: Model(net).init(jax.random.key(0), x, False))
  fill = lambda leaf: random.standard_normal(leaf.shape, np.float32)
  trained = jax.tree.map(fill, shapes)
  trained["batch_stats"]["a_norm"]["var"] **= 2
  logits = jax.jit(lambda v, d: Model(net, scheme).apply(v, x, False, d))
  for format_ in (FP32, bitq_format(8, 2, 8), bitq_format(8, 4, 1)):
    formats = block_formats.uniform(net, format_)
    formats["a.weight"] = block_format(4, 8, 8)
    rows = jnp.asarray(block_formats.to_array(net, formats))
    data = Data(rows, jnp.full(len(rows), 1, jnp.int32))
    network = block_artifact.encode(net, trained, data, scheme)
    block_artifact.save(network, tmp_path)
    found = block_artifact.load(tmp_path)
    expected = logits(trained, data)
    bfp_oracle.assert_same_bits(logits(found.variables, found.data), expected)
    bfp_oracle.assert_same_bits(
      found.logits(x), block_artifact.logits(net, scheme, trained, data, x)
    )
    np.testing.assert_allclose(found.logits(x), expected, rtol=1e-3, atol=1e-3)
    assert len(np.unique(expected, axis=0)) == len(x)


@pytest.mark.parametrize(
  "scheme",
  [
    GRID,
    BlockFloat((4,), "floor", 3),
    BlockFloat((0, 4, 8), "even", 0, spans_kernel=False),
  ],
)
def test_decoded_weights_are_the_formula_of_the_trained_ones(scheme, tmp_path):
  rows = np.random.default_rng(4).integers((2, 1), (9, 9), (len(SITES), 2))
  sizes = np.random.default_rng(5).choice(scheme.sizes, (len(SITES), 1))
  rows = np.hstack([rows, sizes]).astype(np.int32)
  given = rows.copy()
  if len(scheme.sizes) == 1:
    given[:, 2] = 3  # which a model that was compiled for one size ignores
  data = Data(jnp.asarray(given), jnp.zeros(len(SITES), jnp.int32))
  network = block_artifact.encode(MIX, trained(), data, scheme)
  np.testing.assert_array_equal(network.formats, rows)
  block_artifact.save(network, tmp_path)
  params = block_artifact.load(tmp_path).variables["params"]
  for node in MIX.nodes:
    if node.has_weights:
      bits, exponent_bits, size = rows[SITES.index(f"{node.name}.weight")]
      whole = 0 if scheme.spans_kernel else 1
      tile = {
        "conv": (whole, whole, size, 1),
        "depthwise": (whole, whole, 1, size),
        "linear": (size, 1),
      }[node.op]
      kernel = trained()["params"][f"{node.name}_kernel"]
      largest = np.abs(kernel).max()
      expected = bfp_oracle.by_formula(
        *(kernel, bits, tile, scheme.rounding, exponent_bits),
        top=np.frexp(largest)[1] - 1,
      )
      bfp_oracle.assert_same_bits(params[f"{node.name}_kernel"], expected)


def test_what_is_not_a_kernel_is_as_it_was():
  found = encoded().variables
  for kind, tree in trained().items():
    for name, value in tree.items():
      if not name.endswith("_kernel"):
        jax.tree.map(np.testing.assert_array_equal, found[kind][name], value)


def test_files_that_were_altered_or_cut_short_are_refused(tmp_path):
  block_artifact.save(encoded(), tmp_path)
  weights, manifest = tmp_path / "weights.npz", tmp_path / "network.json"
  whole, text = weights.read_bytes(), manifest.read_text()
  for damaged in (whole[:-9], b"", whole[:99] + b"x" + whole[100:]):
    weights.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="weights.npz is not the file"):
      block_artifact.load(tmp_path)
  weights.write_bytes(whole)
  changed = json.loads(text)
  changed["formats"]["b.out"]["top"] += 1
  for damaged, message in (
    (json.dumps(changed), "network.json was altered"),
    (text[:300], "network.json holds no network"),
    (text.replace('"version": 1', '"version": 2'), "of version 2, expected"),
  ):
    manifest.write_text(damaged)
    with pytest.raises(ArtifactError, match=message):
      block_artifact.load(tmp_path)
  manifest.write_text(text)
  with pytest.raises(ArtifactError, match="expected 'fbq integer network'"):
    artifact.load(tmp_path)
  block_artifact.load(tmp_path)


def test_sizes_are_those_of_the_arrays(tmp_path):
  network = encoded()
  manifest = block_artifact.save(network, tmp_path)
  sizes = manifest["sizes"]
  with np.load(tmp_path / "weights.npz") as arrays:
    packed = {n: x.nbytes for n, x in arrays.items() if n.endswith(".weight")}
    rest = sum(x.nbytes for n, x in arrays.items() if n not in packed)
  assert set(packed) == set(network.weights)
  for site, count in packed.items():
    assert manifest["formats"][site]["bytes"] == count
  assert sizes["weight_bytes"] == sum(packed.values())
  assert sizes["constant_bytes"] == rest
  assert sizes["total_bytes"] == sum(packed.values()) + rest


@pytest.mark.parametrize("window", [0, 1, 3])
def test_activations_take_what_they_pack_to(window):
  network = encoded(BlockFloat((1, 4, 8), window=window))
  for name, shape in MIX.shapes.items():
    site = MIX.site_of[name]
    if site is not None:
      row = bfp.Format(*network.formats[SITES.index(site)].tolist())
      packed = bfp_codes.pack(
        bfp_codes.encode(
          jnp.ones((1, *shape)), row, -1, window_axes(window, 4), top=0
        )
      )
      assert network.activation_bytes(name) == len(packed)
  assert network.activation_bytes("fc") == 3 * 4


def test_peak_is_that_of_all_tensors_alive():
  """By hand: X = 6, SE = 2, blocks of 4 channels and 16 bits of bias."""
  network = uniform(bitq_format(8, 2, 4))
  a = 16 + 9 * 8 * (8 * 6 + 2 * 2)  # bits: 72 pixels of 8 channels, 2 blocks
  half = 16 + 5 * 4 * (8 * 6 + 2 * 2)
  image = 16 + 9 * 8 * (2 * 6 + 2)
  assert network.activation_bytes("input") == image // 8
  peak = block_artifact.sizes(network)["peak_activation_bytes"]
  assert peak == -(-a // 8) + -(-half // 8)


def test_what_does_not_fit_is_refused_by_name():
  data = mixed()
  encode = functools.partial(block_artifact.encode, MIX)
  params = dict(trained()["params"])
  kernel = params["a_kernel"].copy()
  kernel[0, 0, 0, 1] = np.nan
  odd = data.formats.at[SITES.index("b.out")].set(jnp.array([4, 9, 8]))
  for change, given, message in (
    ({"a_kernel": kernel}, data, r"params\['a_kernel'\] has nan in 1 of 96"),
    (
      {"b_kernel": kernel},
      data,
      "params/b_kernel, expected float32.3, 3, 1, 8",
    ),
    ({"x_bias": kernel}, data, "at params/x_bias, expected nothing"),
    ({}, data._replace(formats=odd), "format of 'b.out': exponent_bits is 9"),
    ({}, data._replace(formats=odd[1:]), "formats have shape"),
  ):
    found = trained() | {"params": {**params, **change}}
    with pytest.raises(ValueError, match=message):
      encode(found, given, GRID)
  del params["fc_bias"]
  with pytest.raises(ValueError, match="have nothing at params/fc_bias"):
    encode(trained() | {"params": params}, data, GRID)
