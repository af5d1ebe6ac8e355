"""Assignments of bits and of block formats, as JSON, that were damaged."""

import collections
import json
import re

from fuzz import fuzzing

from fbq import block_formats, nets, precision
from hwsim import reading
from hwsim.bfp.formats import bitq_format

NET = nets.resnet8(0.25, 8, in_channels=1)
WORD = re.compile(r'"[^"]*"|[\w.]+')


def run(seed: int, count: int) -> collections.Counter:
  """Half of the files are of bits, half of block formats."""
  bits = precision.to_json(NET, precision.uniform(NET, 4))
  format_ = bitq_format(8, 3, 16)
  formats = block_formats.to_json(NET, block_formats.uniform(NET, format_))
  total = collections.Counter()
  for text, read, wrong in (
    (bits, precision.from_json, wrong_bits),
    (formats, block_formats.from_json, wrong_formats),
  ):
    words = [match.span() for match in WORD.finditer(text)]

    def mutate(random, text=text, words=words):
      if random.random() < 0.7:
        text = fuzzing.words_changed(text, words, random)
      data = text.encode("utf-8-sig" if random.random() < 0.2 else "utf-8")
      return (
        fuzzing.bytes_changed(data, random) if random.random() < 0.4 else data
      )

    total += fuzzing.fuzz(
      mutate,
      lambda path, read=read: read(NET, path),
      wrong,
      ".json",
      seed,
      -(-count // 2),
    )
  return total


def wrong_bits(path, found):
  """The file says the same, once, in whole numbers that are legal."""
  said = pairs_of(path)["bits"]
  if dict(said) != found or len(said) != len(found):
    return f"the file says {said}"
  if set(found) != set(NET.workload.sites):
    return "the sites are not those of the network"
  strange = [
    b for b in found.values() if type(b) is not int or b not in (2, 4, 8)
  ]
  fixed = [s for s, b in NET.fixed_bits.items() if found[s] != b]
  return f"bits {strange}, fixed {fixed}" if strange or fixed else ""


def wrong_formats(path, found):
  said = {site: dict(one) for site, one in pairs_of(path)["formats"]}
  if said != {site: one._asdict() for site, one in found.items()}:
    return f"the file says {said}"
  if set(found) != set(NET.workload.sites):
    return "the sites are not those of the network"
  kinds = {tuple(type(value) for value in one) for one in found.values()}
  expected = {(int, int, int, bool, int, str, str)}
  return f"types {kinds}" if kinds != expected else ""


def pairs_of(path):
  """What a JSON file holds, its inner objects as lists of pairs."""
  text = reading.text_of(path)
  return dict(json.loads(text, object_pairs_hook=list))
