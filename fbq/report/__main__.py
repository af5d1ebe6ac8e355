"""Makes the page of a run again from its results: python -m fbq.report WORKDIR.

Nothing is trained or costed, and no number changes.
"""

import sys


def main(arguments: list[str]) -> None:
  """Writes report.html and its pictures into each workdir that is named."""
  from fbq.config import ConfigError
  from fbq.files import user_path
  from fbq.lab import experiment

  if not arguments:
    sys.exit("error: no workdir is named; usage: python -m fbq.report WORKDIR")
  for argument in arguments:
    workdir = user_path(argument)
    try:
      kind, results, run = experiment.load(workdir)
    except ConfigError as error:
      sys.exit(f"error: {error}")
    kind.write(results, run, workdir)
    print(workdir / "report.html")


if __name__ == "__main__":
  main(sys.argv[1:])
