"""Free Bits on a folder of JPEGs in a run of seconds, for tests.

python main.py --config=tests/configs/tiny_folder.py --workdir=runs/tiny \
  --config.data.directory=runs/tiny_images
"""

from ml_collections import ConfigDict

from tests.configs import tiny


def get_config() -> ConfigDict:
  """The keys of tests/configs/tiny.py on generated pictures of 8x8."""
  config = tiny.get_config()
  config.net.arguments.update(colours=3, classes=3)
  config.data = ConfigDict(
    dict(
      name="imagenet",
      directory="",
      generated=dict(classes=3, train=4, test=3),
      validation_share=0.25,
      evaluation_batch=4,  # the last of nine images fills its batch with three
      threads=1,
    )
  )
  with config.ignore_type():
    config.float_training.steps = "8 epochs"  # of 9 images
  config.search.locked = (False,)
  config.fine_tuning.update(steps=4, drops=(0.5,))
  config.uniform_baselines = (8,)
  return config
