#!/usr/bin/env bash
# A run on one node of a Slurm cluster, as long as it takes: each job trains until shortly before its time is up, then
# puts itself back into the queue and resumes there.
#   sbatch clusters/slurm.sh NAME [STUDY] [OPTIONS]        for example: sbatch clusters/slurm.sh table3 cifar10
# Submit it from the project's folder, with the environment active and SWEEP_DATA set. Change the lines below as needed.
#SBATCH --job-name=all-cnn-sweep
#SBATCH --nodes=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM to this script two minutes before the end: the run then has 30 s to stop its trials and close its record.
#SBATCH --signal=B:TERM@120
set -uo pipefail

scripts/begin-or-resume "$@" &
run=$!
trap 'kill -TERM "$run"; interrupted=yes' TERM
# A signal interrupts `wait`, not the run: wait again, also where the run has ended by then, since bash keeps its status.
interrupted=yes
while [ "$interrupted" ]; do interrupted=; wait "$run"; status=$?; done

if [ "$status" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
