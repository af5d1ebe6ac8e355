"""Stands in for main.py in tests of launch: seconds instead of minutes.

Writes what it does to `witness/<id>.txt` beside points/: one line when it
starts, one when it ends. It resumes: a step that stands in its workdir is not
made again. Settings say what it does.
"""

import json
import os
import sys
import time
from pathlib import Path


def main(arguments):
  given = dict(a.removeprefix("--").split("=", 1) for a in arguments)
  workdir = Path(given["workdir"])
  steps = int(given.get("config.steps", "3"))
  step_s = float(given.get("config.step_s", "0.01"))
  mood = given.get("config.mood", "good")
  given_files = {path.name for path in workdir.glob("*")} - {".lock"}
  if given_files and "config.json" not in given_files:
    sys.exit("error: workdir is not empty")  # as main.py has it
  workdir.mkdir(parents=True, exist_ok=True)
  (workdir / "config.json").write_text(json.dumps(given))
  witness = workdir.parents[1] / "witness" / f"{workdir.name}.txt"
  witness.parent.mkdir(exist_ok=True)
  say(witness, "start")
  if mood == "bad":
    print("error: the learning rate is too high")
    return 1
  if mood == "killed":
    os.kill(os.getpid(), 9)
  if mood == "idle":  # ends well, with nothing
    return 0
  state = workdir / "state.txt"
  while (done := len(state.read_text()) if state.exists() else 0) < steps:
    time.sleep(step_s)
    say(witness, f"step {done + 1}")
    with state.open("a") as file:
      file.write(".")
  if mood == "late":
    sys.exit("error: diverged")
  (workdir / "results.csv").write_text(
    "name,cycles,accuracy\n"
    f"8/8,{1000 + int(given.get('config.seed', 0))},0.9\n"
    f"4/4,{700 + int(given.get('config.seed', 0))},0.8\n"
  )
  say(witness, "end")
  temporary = workdir / "result.tmp"
  temporary.write_text(json.dumps({"steps": steps}))
  temporary.replace(workdir / "result.json")
  if mood == "killed late":
    os.kill(os.getpid(), 9)
  return 0


def say(witness, what):
  line = f"{time.monotonic_ns()} {os.getpid()} {what}\n"
  descriptor = os.open(witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
  os.write(descriptor, line.encode())
  os.close(descriptor)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
