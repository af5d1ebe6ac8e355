"""Sweeps whose processes are killed: nothing lost, nothing run twice."""

import os
import signal
import threading
import time

import launch_runs
import pytest
from launch_runs import check_history, is_alive, pids, wait_for, witness

from launch import local, manifest, slots, sweep

# ml_collections loads configurations the old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")
SLOT = slots.Slot((), {})
EARLY = ("start", *(f"step {i}" for i in range(1, 7)))  # of 8


@pytest.fixture(autouse=True)
def quick_and_clean(monkeypatch):
  monkeypatch.setattr(local, "LOOK_S", 0.05)
  yield
  launch_runs.end_all()


def seeds(count, **settings):
  """A sweep of `count` points."""
  fixed = {name: [value] for name, value in settings.items()}
  return {"grid": {"seed": list(range(count)), **fixed}}


class Launcher(threading.Thread):
  """A launcher in a thread; runs are processes as ever."""

  def __init__(self, runs, count=2):
    super().__init__()
    self.runs, self.slots, self.stop = runs, [SLOT] * count, threading.Event()
    self.start()

  def run(self):
    self.counts = local.run(self.runs, self.slots, self.stop)

  def result(self):
    self.join(60)
    return dict(self.counts)


def test_runs_killed_6_times_lose_nothing(tmp_path):
  launcher = Launcher(launch_runs.fake_runs(tmp_path, 4, steps=8, step_s=0.05))
  killed: list[tuple[str, int]] = []
  while len(killed) < 6:
    for point, lines in witness(tmp_path).items():
      pid, did = lines[-1][1:] if lines else (0, "end")
      times = sum(other == point for other, _ in killed)
      # A point is given up when it is killed three times.
      if (point, pid) not in killed and did in EARLY and times < 2:
        os.kill(pid, signal.SIGKILL)
        killed.append((point, pid))
        break
    time.sleep(0.01 * len(killed))  # at different places of a run
  assert launcher.result() == {"done": 4}
  assert check_history(tmp_path, 4, steps=8) == 10


def test_2_launchers_complete_each_of_24_points_once(tmp_path):
  runs = launch_runs.fake_runs(tmp_path, 24, steps=1, step_s=0)
  both = [Launcher(runs) for _ in range(2)]
  assert [launcher.result() for launcher in both] == [{"done": 24}] * 2
  assert check_history(tmp_path, 24, steps=1) == 24
  assert Launcher(runs).result() == {"done": 24}  # and never again
  assert check_history(tmp_path, 24, steps=1) == 24


def test_a_killed_controller_takes_its_runs_along_and_another_ends_all(
  tmp_path,
):
  given = seeds(4, steps=6, step_s=0.1)
  one = launch_runs.launch(tmp_path, given, "--slots=2")
  wait_for(lambda: len(pids(tmp_path)) == 2, "two runs")
  points, _ = manifest.read(tmp_path)
  other = launch_runs.launch(tmp_path, None, "--slots=2")
  before = pids(tmp_path)
  one.kill()
  assert launch_runs.output(one)[0] == -signal.SIGKILL
  wait_for(lambda: not any(map(is_alive, before)), "the end of its runs", 20)
  status, said = launch_runs.output(other)
  assert status == 0 and "4/4 done" in said, said
  assert check_history(tmp_path, 4, steps=6) == 6  # two were in the middle


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_controller_ends_its_2_runs(tmp_path, number, capsys):
  process = launch_runs.launch(tmp_path, seeds(3, step_s=60), "--slots=2")
  wait_for(lambda: len(pids(tmp_path)) == 2, "two runs")
  process.send_signal(number)
  status, said = launch_runs.output(process)
  assert status == 1 and "the same command goes on" in said
  assert "0/3 done, 3 stopped" in said
  assert not any(map(is_alive, pids(tmp_path)))
  assert sweep.main(["status", f"--workdir={tmp_path}"]) == 0
  assert "3 points: 2 stopped, 1 missing" in capsys.readouterr().out


def test_a_full_disk_is_told_and_loses_none_of_4_points(small_disk, capsys):
  workdir = small_disk / "sweep"
  workdir.mkdir()
  runs = launch_runs.fake_runs(workdir, 4, steps=1, step_s=0)
  with (small_disk / "ballast").open("wb", buffering=0) as file:
    with pytest.raises(OSError, match="No space"):
      while True:
        file.write(bytes(4096))
  assert Launcher(runs).result() == {"failed": 4}
  assert capsys.readouterr().out.count("No space left on device") == 4
  (small_disk / "ballast").unlink()
  assert Launcher(runs).result() == {"done": 4}
  assert check_history(workdir, 4, steps=1) == 4


def test_a_damaged_line_stops_the_launch_with_0_runs_and_status_tells(
  tmp_path, capsys
):
  path = tmp_path / "points.jsonl"
  given = launch_runs.arguments(tmp_path, seeds(3))
  assert sweep.main(["expand", *given]) == 0
  whole = path.read_text()
  path.write_text(whole.replace('"seed": 1', '"seed": 7'))
  capsys.readouterr()
  for command in ("run", "expand", "collect"):
    assert sweep.main([command, *given]) == 1
    said = capsys.readouterr().err
    assert "points.jsonl, line 2 is damaged" in said and "Nothing was" in said
  assert not (tmp_path / "points").exists() and path.read_text() != whole
  assert sweep.main(["status", f"--workdir={tmp_path}"]) == 1
  said = capsys.readouterr().out
  assert "2 points: 2 missing" in said and "line 2 is damaged" in said
  path.unlink()  # as the message says
  assert sweep.main(["expand", *given]) == 0
  assert path.read_text() == whole
