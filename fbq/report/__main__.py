"""Makes the page of a run again from its results: python -m fbq.report WORKDIR.

With --markdown it prints what the run told at its end, for a document. Nothing
is trained or costed, and no number changes.
"""

import sys


def main(arguments: list[str]) -> None:
  """Writes report.html and its pictures into each workdir that is named."""
  from fbq.config import ConfigError
  from fbq.files import user_path
  from fbq.lab import experiment
  from fbq.report import markdown

  workdirs = [name for name in arguments if name != "--markdown"]
  if not workdirs or any(name.startswith("--") for name in workdirs):
    sys.exit(
      "error: no workdir is named; usage: python -m fbq.report [--markdown] "
      "WORKDIR"
    )
  for name in workdirs:
    workdir = user_path(name)
    try:
      kind, results, run = experiment.load(workdir)
    except ConfigError as error:
      sys.exit(f"error: {error}")
    if len(workdirs) < len(arguments):
      print("\n\n".join(markdown.told(kind, results, run)))
    else:
      kind.write(results, run, workdir)
      print(workdir / "report.html")


if __name__ == "__main__":
  main(sys.argv[1:])
