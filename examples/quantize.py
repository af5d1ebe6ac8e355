"""Quantizes the parameters of one's own Flax module, without training.

Here they are random. One line for each recipe: bits of weights, how their
ranges are chosen, the share of 512 digits that keep their class in float.
"""

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict
from sklearn.datasets import load_digits

from fbq import Bench, Net, Node, Recipe


class Own(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(16, (3, 3), padding=0, name="a")(x))
    return nn.Dense(10, name="b")(x.reshape(len(x), -1))


A = Node("a", "conv", ("input",), 16, (3, 3), bias=True, activation="relu")
B = Node("b", "linear", ("a",), 10, bias=True, is_output=True)
NET = Net("own", input_shape=(8, 8, 1), nodes=(A, B))  # the same as a table


def main():
  images = load_digits().images[:512, :, :, None].astype("float32") / 16
  own = Own().init(jax.random.key(0), images)
  classes = Own().apply(own, images).argmax(-1)
  params = flatten_dict(own["params"], sep="_")  # "a_kernel", "a_bias", ...
  bench = Bench(NET, {"params": params}, batches=[images[:256]])
  for bits, rule in ((8, "min_max"), (4, "min_max"), (4, "least_squares")):
    quantized = bench.apply(Recipe(bits, 8, weight_rule=rule))
    same = bench.logits(quantized, images, 256).argmax(-1) == classes
    print(bits, rule, f"{same.mean():.4f}")


if __name__ == "__main__":
  main()
