#!/usr/bin/env bash
# The whole road on a machine without GPU, weights or network: prompts -> images -> annotations -> training -> scores.
#   bash pipeline/demo.sh             everything, about ten minutes on two cores
#   bash pipeline/demo.sh --smoke     the same road with a handful of pairs and steps
#   bash pipeline/demo.sh --photo FILE --photo-prompt TEXT     score this picture at the end
# Output: output/demo (--smoke: output/demo-smoke), its summary in summary.md. The folder is made anew each time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

photo='' photo_prompt=''
while (($#)); do
  case $1 in
    --smoke) export OUTPUT=${OUTPUT:-output/demo-smoke} DEMO_PROMPTS=40 DEMO_STEPS=4 DEMO_HELDOUT=4 ;;
    --photo) photo=${2:?--photo needs a file}; shift ;;
    --photo-prompt) photo_prompt=${2:?--photo-prompt needs a text}; shift ;;
    *) echo "demo.sh: unknown argument '$1'; see the head of this file" >&2; exit 2 ;;
  esac
  shift
done
if [[ -n $photo && ! -f $photo ]]; then echo "demo.sh: no such image file: $photo" >&2; exit 2; fi
if [[ -n $photo && -z $photo_prompt ]]; then echo "demo.sh: --photo needs --photo-prompt TEXT" >&2; exit 2; fi

bash pipeline/setup_env.sh
source .venv/bin/activate
source pipeline/demo.env
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
command -v nvidia-smi >/dev/null || export DS_ACCELERATOR=cpu # else DeepSpeed warns each time that it found no GPU
started=$SECONDS
rm -rf "$OUTPUT"
mkdir -p "$OUTPUT"

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
say "Embedded default: demo prompts and a tiny Qwen3-VL with the real tokenizer"
python -m dyneval.demo.prompts --count "$DEMO_PROMPTS" --seed 0 --output "$OUTPUT/demo_prompts.txt"
python -m dyneval.demo.tiny_model --output "$OUTPUT/tiny_qwen3_vl"
python -m dyneval.demo.tiny_model --output "$OUTPUT/untrained" --task-tokens

for step in 1_filter_prompts 2_generate_images 3_distill_annotations 4_finetune 5_evaluate; do
  say "Step ${step%%_*}: pipeline/$step.sh"
  bash "pipeline/$step.sh" pipeline/demo.env
done

say "A picture from outside the demo world"
if [[ -z $photo ]]; then
  photo=$OUTPUT/photo.jpg photo_prompt="a quiet lake between hills at sunset, photograph"
  python -m dyneval.demo.photo --output "$photo"
fi
python inference/run_inference.py --checkpoint "$OUTPUT/train/dyneval_2b_stage2_iqa" --image "$photo" \
  --prompt "$photo_prompt" --output "$OUTPUT/scores/photo.jsonl" "${REPLY_LIMITS[@]}" >/dev/null

say "Summary"
python -m dyneval.demo.summary --output "$OUTPUT" --seconds "$((SECONDS - started))"
