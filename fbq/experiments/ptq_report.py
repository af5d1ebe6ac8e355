"""What post-training quantization leaves for people: table, pictures, page."""

import csv
import dataclasses
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fbq.experiments.ptq_studies import WIDTHS, Study, recipes
from fbq.experiments.stages import machine_facts
from fbq.experiments.task import Task
from fbq.nets.graph import Net
from fbq.ptq.recipes import Recipe
from fbq.report import page, ptq_plots, tables
from fbq.report.shootout import Mean, mean
from fbq.train.log import Log

_LOSS = 0.01  # 8 bits per channel must not lose more
_COLLAPSE = 0.05  # of accuracy, to speak of it


class Result(NamedTuple):
  """One recipe on the networks of all seeds.

  Attributes:
    recipe: that was applied.
    accuracy: on test images.
    loss: of accuracy, float minus quantized, within a seed.
    kl: mean over seeds, nats, on validation images.
    agreement: mean over seeds, share of validation images of the same class as
      in float.
    accuracies: of each seed.
  """

  recipe: Recipe
  accuracy: Mean
  loss: Mean
  kl: float
  agreement: float
  accuracies: tuple[float, ...]


class Choice(NamedTuple):
  """What is recommended.

  Attributes:
    best: for each pair of bit-widths the recipe of least divergence.
    used: the one of them to use.
    is_faithful: whether it keeps the classes within the tolerance.
  """

  best: tuple[Result, ...]
  used: Result
  is_faithful: bool


def results(
  tried: Sequence[Recipe], found: Mapping[int, Mapping[str, Any]]
) -> dict[Recipe, Result]:
  """{recipe: result} over seeds.

  Args:
    tried: recipes, in the order of `found`.
    found: {seed: {"float": accuracy, "recipes": [numbers of each]}}.
  """
  collected = {}
  for i, recipe in enumerate(tried):
    rows = [content["recipes"][i] for content in found.values()]
    floats = [content["float"] for content in found.values()]
    accuracies = [row["accuracy"] for row in rows]
    lost = [a - b for a, b in zip(floats, accuracies, strict=True)]
    collected[recipe] = Result(
      recipe,
      _mean(accuracies),
      _mean(lost),
      statistics.fmean(row["kl"] for row in rows),
      statistics.fmean(row["agreement"] for row in rows),
      tuple(accuracies),
    )
  return collected


def choose(collected: Mapping[Recipe, Result], tolerance: float) -> Choice:
  """The recipe to use, by images of the training split, without labels.

  For each pair of bit-widths the recipe of least KL divergence from the float
  network; of these the one of fewest weight bits times activation bits, of
  equals of fewest weight bits, that gives the float network's class for a share
  of 1 - tolerance of the images; the first pair's if none does.
  """
  best = []
  for pair in WIDTHS:
    of_pair = [
      one
      for recipe, one in collected.items()
      if (recipe.weight_bits, recipe.activation_bits) == pair
    ]
    best.append(min(of_pair, key=lambda one: one.kl))
  order = sorted(
    best,
    key=lambda one: (
      (one.recipe.weight_bits or 0) * (one.recipe.activation_bits or 0),
      one.recipe.weight_bits,
    ),
  )
  for one in order:
    if one.agreement >= 1 - tolerance:
      return Choice(tuple(best), one, True)
  return Choice(tuple(best), best[0], False)


def write_report(
  workdir: Path,
  config: ConfigDict,
  net: Net,
  studies: Sequence[Study],
  found: Mapping[int, Mapping[str, Any]],
  task: Task,
  seconds: Mapping[str, float],
  log: Log,
) -> dict[str, Any]:
  """Writes results.csv and report.html, prints the tables.

  Args:
    found: by seed, what `fbq.experiments.ptq` measured.
    seconds: wall time of the stages.

  Returns:
    The summary for result.json.
  """
  collected = results(recipes(studies), found)
  choice = choose(collected, config.tolerance)
  in_float = _mean([content["float"] for content in found.values()])
  first = next(iter(found.values()))
  answer = sentence(choice, in_float, net.name, config.tolerance)
  findings = [
    _eight_bits(collected),
    *_folding(collected, first["layers"]["spreads"]),
  ]
  _write_csv(workdir / "results.csv", collected, list(found))
  html = page.render(
    "ptq.html",
    network=net.name,
    answer=answer,
    findings=findings,
    in_float=in_float,
    choice=choice,
    studies=studies,
    collected=collected,
    seconds_of_recipe=first["seconds"],
    calibration=config.calibration_images,
    best_picture=ptq_plots.recipes(
      [
        (one.recipe.widths, one.recipe.name, one.accuracy, one is choice.used)
        for one in choice.best
      ],
      in_float,
    ),
    sqnr_picture=ptq_plots.ratios(first["layers"]["sqnr"], 8),
    layer_picture=ptq_plots.sensitivities(
      first["layers"]["weights"], first["layers"]["activations"]
    ),
    report={
      "assumptions": _assumptions(config, task),
      "facts": machine_facts(),
    },
    tolerance=config.tolerance,
    seconds=dict(seconds),
    config=config.to_dict(),
  )
  tables.write_atomically(workdir / "report.html", html.encode())
  for study in studies:
    log.console.print(console_table(study, collected))
  log.say(answer)
  for text in findings:
    log.say(text)
  log.say(f"Report: {workdir / 'report.html'}")
  return {
    "recommended": _plain(choice.used),
    "best": [_plain(one) for one in choice.best],
    "float_accuracy": dataclasses.asdict(in_float),
    "findings": findings,
  }


def sentence(choice: Choice, in_float: Mean, network: str, tolerance) -> str:
  """The recommendation in plain words."""
  one = choice.used
  text = (
    f"Use {one.recipe.name} for {network}: {one.accuracy} % of the test images "
    f"are right, {in_float} % in float."
  )
  if choice.is_faithful:
    return text
  return (
    f"{text} No recipe keeps the float network's class for "
    f"{1 - tolerance:.1%} of the validation images: this is the best at 8 bits."
  )


def console_table(study: Study, collected: Mapping[Recipe, Result]):
  """A `rich.table.Table` of a study."""
  from rich.table import Table

  table = Table(title=f"{study.title} (test accuracy, %)")
  table.add_column("", overflow="fold")
  for heading in study.columns:
    table.add_column(heading, justify="right")
  for label, row in study.rows:
    cells = ("–" if cell is None else collected[cell].accuracy for cell in row)
    table.add_row(label, *map(str, cells))
  return table


def _eight_bits(collected: Mapping[Recipe, Result]) -> str:
  """Whether 8 bits per channel keep what they must."""
  loss = collected[Recipe()].loss
  said = "lose at most" if loss.value <= _LOSS else "lose more than"
  return (
    f"8-bit weights per channel and 8-bit activations with ranges by min/max "
    f"{said} 1 point: {loss} points of test accuracy lost."
  )


def _folding(
  collected: Mapping[Recipe, Result], spreads: Sequence[Mapping[str, Any]]
) -> list[str]:
  """What folding does to weights that share a range; nothing if not tried.

  Args:
    spreads: rows of `folding.spreads` of one network.
  """
  shared = Recipe(8, None, "affine", per_channel=False, steps=())
  before = collected.get(shared)
  after = collected.get(dataclasses.replace(shared, steps=("fold",)))
  if before is None or after is None:
    return []
  if before.accuracy.value - after.accuracy.value > _COLLAPSE:
    why = (
      "It is folding that breaks one range for a layer: a batch norm's factors "
      "differ from channel to channel, and so then do the ranges of the "
      "channels; small channels are left with a few codes, or none"
    )
  else:
    why = "Folding does little to one range for a layer here"
  return [
    f"{why}: W8 affine per layer {before.accuracy} % unfolded, "
    f"{after.accuracy} % folded.",
    *_widest(spreads),
  ]


def _widest(spreads: Sequence[Mapping[str, Any]]) -> list[str]:
  """The layer whose channels folding makes most unequal."""
  if not spreads:
    return []
  row = max(spreads, key=lambda row: row["after"])
  return [
    f"Most unequal in the first network: {row['layer']}, whose widest channel "
    f"has {row['after']:,.1f} times the range of the median one "
    f"({row['before']:.1f} times before folding; its batch norm's variance is "
    f"{row['variance']:.1e}, by whose root folding divides). With one 8-bit "
    f"range {row['lost']:.0%} of its channels are all zeros."
  ]


def _assumptions(config: ConfigDict, task: Task) -> list[str]:
  return [
    f"{len(config.seeds)} float networks, {config.float_training.steps} steps "
    "each; ± is the standard error over them.",
    f"Ranges from {config.calibration_images} images of the training split in "
    f"batches of {config.calibration_batch}; bias correction and AdaRound see "
    f"{config.correction_batches} of the batches. No labels are used.",
    f"Recipes are chosen by {config.validation_images} or a few more other "
    "renders of training images, not by test images; the network was trained "
    "on their sources, so it is surer of them than of test images.",
    f"Percentile: {config.percent:g} %. Moving average: decay {config.decay:g} "
    f"a batch. AdaRound: {config.rounding.steps} steps of "
    f"{config.rounding.batch_size} images for each layer.",
    "The image keeps 8 bits from 0 to 1, adders and signed tensors 8 bits; "
    "biases and logits stay in float, as 32-bit integers hold them.",
    task.about_test,
  ]


def _plain(one: Result) -> dict[str, Any]:
  return {
    "name": one.recipe.name,
    "recipe": dataclasses.asdict(one.recipe),
    "accuracy": dataclasses.asdict(one.accuracy),
    "loss": dataclasses.asdict(one.loss),
    "kl": one.kl,
    "agreement": one.agreement,
  }


def _write_csv(path: Path, collected, seeds: Sequence[int]) -> None:
  """A row for each recipe, its settings, means and accuracies of seeds."""
  text = io.StringIO(newline="")
  writer = csv.writer(text, lineterminator="\n")
  fields = [field.name for field in dataclasses.fields(Recipe)]
  more = ["accuracy", "loss", "kl", "agreement"]
  writer.writerow([*fields, *more, *(f"accuracy:seed{s}" for s in seeds)])
  for recipe, one in collected.items():
    settings = dataclasses.asdict(recipe) | {"steps": "+".join(recipe.steps)}
    numbers = (one.accuracy.value, one.loss.value, one.kl, one.agreement)
    writer.writerow(
      [
        *("float" if settings[f] is None else settings[f] for f in fields),
        *map(repr, (*numbers, *one.accuracies)),
      ]
    )
  tables.write_atomically(path, text.getvalue().encode())


def _mean(values: Sequence[float]) -> Mean:
  value = mean(values)
  assert value is not None
  return value
