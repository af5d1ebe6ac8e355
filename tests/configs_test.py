"""Every config: what it is without words, and what a bad word gets."""

import importlib
import pathlib

import idx_cases
import lab_cases
import pytest

from fbq.config import ConfigError

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
# Data or a run that has to be there: their own tests make it.
NEEDS_FILES = {"cifar_free_bits", "export", "imagenet_bitq"}
NEEDS_FILES |= {"compress", "imagenet_free_bits", "mlperf_kws"}
NEEDS_FILES |= {"photos_lite0"}
# Tables of a large network take seconds: tests/scenes_bitq_test.py
NEEDS_FILES |= {"scenes_bitq"}
FASHION = {name for name in NAMES if name.startswith("fashion")}


def config_of(name, words=""):
  return importlib.import_module(f"configs.{name}").get_config(words)


@pytest.mark.parametrize("name", sorted({*NAMES} - NEEDS_FILES - FASHION))
def test_a_config_is_sound_as_it_comes(name):
  settings, _ = lab_cases.checked(config_of(name))
  assert settings.experiment


@pytest.mark.parametrize("name", sorted(FASHION))
def test_a_config_of_fashion_is_sound_beside_its_files(name, tmp_path):
  idx_cases.write(tmp_path, train=100, side=28)
  config = config_of(name)
  config.data.directory = str(tmp_path)
  settings, _ = lab_cases.checked(config)
  assert settings.experiment


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("word", ["resnet9", "bits=four", "=", "nett=vgg9"])
def test_a_bad_word_takes_one_line(name, word):
  with pytest.raises(ConfigError) as error:
    config_of(name, word)
  message = str(error.value)
  assert word in message and "expected" in message and "\n" not in message


@pytest.mark.parametrize(
  ("builder", "message"),
  [
    ("onnx", "config.net.arguments is .*'file'; 'onnx' takes file, mean, std"),
    ("builtins:dict", "config.net.builder 'builtins:dict'"),
  ],
)
def test_arguments_of_another_builder_are_told_with_its_own(builder, message):
  config = config_of("digits_free_bits")
  config.net.builder = builder
  with pytest.raises(ConfigError, match=message):
    lab_cases.checked(config)
