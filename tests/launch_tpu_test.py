"""The TPU recipe with a gcloud that stands in for two machines."""

import json
import os
import subprocess
import sys

import launch_runs
from launch_runs import check_history

# Machines are directories; the code is linked instead of copied, and the make
# of a machine gives it a python without pip.
GCLOUD = """#!/bin/bash
verb=$4 vm=$5 home=$FAKE/$5
case $verb in
  describe) [ -d "$home" ] ;;
  create) mkdir -p "$home"; echo "create $vm" >> "$FAKE/told" ;;
  ssh)
    for argument in "$@"; do
      case $argument in --command=*) command=${argument#--command=} ;; esac
    done
    cd "$home" && PATH="$FAKE/bin:$PATH" bash -c "$command" ;;
esac
"""
MAKE = """#!/bin/bash
mkdir -p .venv/bin
cat > .venv/bin/python <<END
#!/bin/bash
[ "\\$2" = pip ] && exit 0
exec "$REAL" "\\$@"
END
chmod +x .venv/bin/python
"""


def test_2_vms_share_5_points_and_bring_them_home(tmp_path):
  home = tmp_path / "home"
  for name in ("launch", "tests/sweeps"):
    target = home / name
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-r", launch_runs.ROOT / name, target], check=True)
  for path, text in {"gcloud": GCLOUD, "bin/make": MAKE}.items():
    file = tmp_path / "fake" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
  environment = os.environ | {
    "FAKE": str(tmp_path / "fake"),
    "REAL": sys.executable,
    "GCLOUD": str(tmp_path / "fake/gcloud"),
    "PYTHON": sys.executable,
    "VMS": "2",
    "PYTHONPATH": "",
  }
  sweep = json.dumps({"grid": {"seed": [0, 1, 2, 3, 4], "steps": [1]}})
  command = [
    *("launch/tpu.sh", f"--config={launch_runs.CONFIG}"),
    *(f"--sweep={launch_runs.CONFIG}:{sweep}", "--workdir=runs/a sweep"),
    "--program=tests/sweeps/fake_main.py",
  ]
  for _ in range(2):
    done = subprocess.run(
      command, cwd=home, env=environment, capture_output=True, text=True
    )
    logs = [p.read_text() for p in (home / "runs/a sweep").glob("tpu-*.txt")]
    assert done.returncode == 0, (done, logs)
    assert "5 points: 5 done" in done.stdout
  workdir = home / "runs/a sweep"
  assert len(list((workdir / "points").glob("*/result.json"))) == 5
  told = (tmp_path / "fake/told").read_text().splitlines()
  assert sorted(told) == ["create fbq-0", "create fbq-1"]
  counts = []
  for i in range(2):
    there = tmp_path / f"fake/fbq-{i}/fbq/runs/a sweep"
    counts.append(len(list((there / "witness").iterdir())))
    assert check_history(there, counts[-1], steps=1) == counts[-1]
  assert counts == [3, 2]
