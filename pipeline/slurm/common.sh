# shellcheck shell=bash
# Sourced by the jobs. Slurm runs a copy of a job's script, so the repository is where sbatch was called: its root.
: "${SLURM_SUBMIT_DIR:=$PWD}"

# The part of the work of this array task, as I/N with I from 1. Arrays count from 0 or 1. SHARDS names N where only some
# tasks of an array of 1-N are submitted again: SHARDS=16 sbatch --array=3,7 ...
shard() {
  local index=${SLURM_ARRAY_TASK_ID:?is set in array jobs: sbatch --array=1-N} count=${SHARDS:-}
  if [[ -z $count ]]; then
    count=${SLURM_ARRAY_TASK_COUNT:?}
    if ((SLURM_ARRAY_TASK_MIN > 1 || SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN + 1 != count)); then
      echo "the array is neither 0-M nor 1-N; to do tasks of an array of 1-N again, say SHARDS=N" >&2
      return 2
    fi
    index=$((index - SLURM_ARRAY_TASK_MIN + 1))
  fi
  if ((index < 1 || index > count)); then
    echo "array task $index is none of 1-$count (SHARDS)" >&2
    return 2
  fi
  echo "$index/$count"
}
