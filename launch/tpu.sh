#!/usr/bin/env bash
# A sweep on Cloud TPU VMs: a recipe to copy and change, not a service.
#
#   launch/tpu.sh --config=configs/x.py --sweep=configs/sweeps/y.py \
#     --workdir=runs/sweep
#
# Needs gcloud, logged in, with a project that has TPU quota. Each of VMS machines
# runs every VMS-th point of the manifest in its own copy of the workdir, so that
# no shared disk is needed (object stores have no hard links, which claims need).
# What is finished, and the checkpoints of what is not, come back at the end and
# go out again at the next start: when a spot VM was preempted, run it again.
# VMs are left running; `gcloud compute tpus tpu-vm delete NAME` ends the bill.
#
# One point runs on one VM and takes all its chips. A pod slice of several hosts
# is one jax.distributed run: give main.py to all hosts with --worker=all instead.
set -euo pipefail

ZONE=${ZONE:-us-central2-b}
TYPE=${TYPE:-v4-8}
VERSION=${VERSION:-tpu-ubuntu2204-base}
NAME=${NAME:-fbq}
VMS=${VMS:-1}
GCLOUD=${GCLOUD:-gcloud}

workdir=
for argument in "$@"; do
  case $argument in --workdir=*) workdir=${argument#--workdir=} ;; esac
done
[ -n "$workdir" ] || { echo "error: give --workdir=..., see the top of $0" >&2; exit 2; }
cd "$(dirname "$0")/.."
mkdir -p "$workdir"

tpu() { "$GCLOUD" compute tpus tpu-vm "$@" --zone="$ZONE"; }

one_vm() {
  local i=$1 vm="$NAME-$1" status=0
  tpu describe "$vm" >/dev/null 2>&1 ||
    tpu create "$vm" --accelerator-type="$TYPE" --version="$VERSION" --spot
  # The code, and the workdir as it stands here.
  tar -cz --exclude=./.venv --exclude=./.git --exclude=./runs . |
    tpu ssh "$vm" --command='mkdir -p fbq && tar -xz -C fbq'
  tar -cz -C "$workdir" . |
    tpu ssh "$vm" --command="cd fbq && mkdir -p '$workdir' && tar -xz -C '$workdir'"
  tpu ssh "$vm" --command="cd fbq && make .venv/stamp >/dev/null &&
    .venv/bin/python -m pip install -q -U 'jax[tpu]' -c constraints.txt" || return
  # --slots=1: a point takes all chips of its VM.
  tpu ssh "$vm" --command="cd fbq && .venv/bin/python -m launch.sweep \
    $(printf '%q ' "${@:2}") --share=$i/$VMS --slots=1 --gpus=none" || status=$?
  tpu ssh "$vm" --command="tar -cz -C 'fbq/$workdir' points logs claims" |
    tar -xz -C "$workdir"
  return "$status"
}

# The manifest first, here, so that all VMs agree on the lines.
${PYTHON:-.venv/bin/python} -m launch.sweep "$@" --executor=slurm --dry_run
jobs=()
for ((i = 0; i < VMS; i++)); do
  one_vm "$i" "$@" > "$workdir/tpu-$i.txt" 2>&1 &
  jobs+=($!)
done
status=0
for job in "${jobs[@]}"; do wait "$job" || status=1; done
${PYTHON:-.venv/bin/python} -m launch.sweep status --workdir="$workdir"
exit "$status"
