#!/usr/bin/env bash
# Submits Steps 2-5 as a chain of jobs:  bash pipeline/slurm/submit.sh my.env   (from the root of the repository)
# Further arguments go to every sbatch: bash pipeline/slurm/submit.sh my.env --partition=gpu --account=me
# It prints the number of each job. SHARDS, and what the jobs read beside the settings file: pipeline/slurm/common.sh
set -euo pipefail
# shellcheck source=pipeline/help.sh
source "$(dirname "${BASH_SOURCE[0]}")/../help.sh"
settings=${1:?name the settings file; bash pipeline/slurm/submit.sh --help}
shift
here=pipeline/slurm
submit() { # dependency, script
  sbatch --parsable ${1:+"--dependency=$1"} "${@:3}" "$here/$2" "$settings"
}
generate=$(submit "" 2_generate.sbatch "$@")
annotate=$(submit "afterok:$generate" 3_annotate.sbatch "$@")
# afterany: the merge itself says which pairs are missing.
merge=$(submit "afterany:$annotate" 3_merge.sbatch "$@")
finetune=$(submit "afterok:$merge" 4_finetune.sbatch "$@")
score=$(submit "afterok:$finetune" 5_score.sbatch "$@")
merged=$(submit "afterany:$score" 5_merge.sbatch "$@")
echo "generate $generate, annotate $annotate, merge $merge, finetune $finetune, score $score, merge $merged"
