# shellcheck shell=bash
# Launcher of both students; sourced by sft_qwen_3_vl_{2b,4b}.sh, which set DEFAULT_MODEL, RUN_PREFIX and task_tokens.
#
#   bash scripts/sft_qwen_3_vl_2b.sh 1 [arguments of train_qwen.py]    -> $OUTPUT_ROOT/dyneval_2b_stage1_t2ia
#   bash scripts/sft_qwen_3_vl_2b.sh 2 [arguments of train_qwen.py]    -> $OUTPUT_ROOT/dyneval_2b_stage2_iqa
#
# Data      DYNEVALINSTRUCT_{T2IA,IQA}_{ANNOTATION,DATA}; with DATASET_USE=dynevalinstruct both halves at once, or the
#           one file of DYNEVALINSTRUCT_{ANNOTATION,DATA}. DATA is the folder that the image paths are relative to.
# Model     MODEL_NAME_OR_PATH (stage 1), STAGE1_CHECKPOINT (stage 2; default: the output of stage 1)
# Held out  EVAL_SPLIT (none): heldout evaluates on a_heldout.json beside each a.json, heldout%10 on a tenth of it,
#           every EVAL_STEPS (1000) steps and after the last
# Output    OUTPUT_ROOT (./output)
# Machines  NPROC_PER_NODE (all GPUs), NNODES (1), NODE_RANK (0), MASTER_ADDR, MASTER_PORT (29500)
# Images    MIN_PIXELS, MAX_PIXELS (what the model was trained with before; of a Qwen3-VL 784 and 50176)
# Recipe    every default below, by its name in capitals: LEARNING_RATE=2e-5 bash scripts/sft_qwen_3_vl_2b.sh 1
#           Arguments on the command line win over both.
set -euo pipefail

fail() { echo "sft: $*" >&2; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
stage=${1:-}
OUTPUT_ROOT=${OUTPUT_ROOT:-./output}
stage1=$OUTPUT_ROOT/${RUN_PREFIX}_stage1_t2ia
case $stage in
  1) model=${MODEL_NAME_OR_PATH:-$DEFAULT_MODEL} dataset=dynevalinstruct_t2ia output=$stage1 ;;
  2) model=${STAGE1_CHECKPOINT:-$stage1} dataset=dynevalinstruct_iqa output=$OUTPUT_ROOT/${RUN_PREFIX}_stage2_iqa
     # Stage 1's own log is written last; a checkpoint from elsewhere needs its configuration at least.
     [[ -d $model && -f $model/config.json && -f $model/added_tokens.json ]] ||
       fail "stage 2 starts from stage 1, but there is no finished checkpoint at $model; run: bash $0 1" ;;
  *) fail "usage: bash $0 1|2 [arguments of train_qwen.py]" ;;
esac
shift
for name in NPROC_PER_NODE NNODES; do
  [[ ${!name:-1} =~ ^[1-9][0-9]*$ ]] || fail "$name is '${!name}', expected a number of 1 or more"
done

python3 -m qwenvl.data "${DATASET_USE:-$dataset}" || exit 1

cores=$(nproc)
gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)
processes=${NPROC_PER_NODE:-$((gpus > 0 ? gpus : 1))}
if ((gpus > 0)); then
  device=(--bf16 "${BF16:-True}" --loss_chunks "${LOSS_CHUNKS:-8}")
else
  echo "sft: no GPU found, training on the CPU" >&2
  export DS_ACCELERATOR=cpu
  # A step's logits are gigabytes: given back to the kernel each time, they cost a quarter of the time in page faults.
  export THP_MEM_ALLOC_ENABLE=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000
  # One thread a core, shared among the processes; unset, accelerate sets it and warns.
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > processes ? cores / processes : 1))}
  # Threads that wait by spinning take the cores from whatever else runs; asleep, they wake as fast.
  export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
  # With instructions for it, bfloat16 takes half the time; without, it is emulated and takes several times as long.
  if grep -qsEw 'avx512_bf16|amx_bf16' /proc/cpuinfo; then bfloat16=True; else bfloat16=False; fi
  device=(--use_cpu True --ddp_backend gloo --bf16 "${BF16:-$bfloat16}" --dataloader_pin_memory False
    --loss_chunks "${LOSS_CHUNKS:-1}") # nearly twice as fast here; there is no small GPU memory to save
fi
if ((${NNODES:-1} > 1)); then
  rendezvous=(--nnodes "$NNODES" --node_rank "${NODE_RANK:?set NODE_RANK on each node}"
    --master_addr "${MASTER_ADDR:?set MASTER_ADDR to the first node}" --master_port "${MASTER_PORT:-29500}")
else
  rendezvous=(--standalone)
fi

arguments=(
  --model_name_or_path "$model"
  "${task_tokens[@]}"
  --dataset_use "${DATASET_USE:-$dataset}"
  --output_dir "$output"
  --run_name "$(basename "$output")"
  --tune_mm_vision "${TUNE_MM_VISION:-False}"
  --tune_mm_mlp "${TUNE_MM_MLP:-True}"
  --tune_mm_llm "${TUNE_MM_LLM:-True}"
  --lora_enable "${LORA_ENABLE:-False}"
  --lora_r "${LORA_R:-64}"
  --lora_alpha "${LORA_ALPHA:-128}"
  --lora_dropout "${LORA_DROPOUT:-0.05}"
  --data_flatten "${DATA_FLATTEN:-True}"
  --data_packing "${DATA_PACKING:-False}"
  ${MAX_PIXELS:+--max_pixels "$MAX_PIXELS"}
  ${MIN_PIXELS:+--min_pixels "$MIN_PIXELS"}
  --model_max_length "${MODEL_MAX_LENGTH:-8192}"
  --learning_rate "${LEARNING_RATE:-1e-5}"
  --lr_scheduler_type "${LR_SCHEDULER_TYPE:-cosine}"
  --warmup_ratio "${WARMUP_RATIO:-0.03}"
  --weight_decay "${WEIGHT_DECAY:-0}"
  --max_grad_norm "${MAX_GRAD_NORM:-1}"
  --num_train_epochs "${NUM_TRAIN_EPOCHS:-0.5}"
  --per_device_train_batch_size "${PER_DEVICE_TRAIN_BATCH_SIZE:-4}"
  --gradient_accumulation_steps "${GRADIENT_ACCUMULATION_STEPS:-4}"
  --gradient_checkpointing "${GRADIENT_CHECKPOINTING:-True}"
  --save_steps "${SAVE_STEPS:-1000}"
  --save_total_limit "${SAVE_TOTAL_LIMIT:-1}"
  --logging_steps "${LOGGING_STEPS:-1}"
  --dataloader_num_workers "${DATALOADER_NUM_WORKERS:-$((cores / processes < 4 ? cores / processes : 4))}"
  --seed "${SEED:-42}"
  --report_to "${REPORT_TO:-none}"
  --deepspeed "${DEEPSPEED:-$here/zero3.json}"
  "${device[@]}"
)
if [[ -n ${EVAL_SPLIT:-} ]]; then
  arguments+=(--eval_split "$EVAL_SPLIT" --eval_steps "${EVAL_STEPS:-1000}")
fi
# On SIGTERM, training has ten minutes to write a checkpoint (the default of 30 s is short for sharded weights).
status=0
rm -f "$output/failure.txt"  # of an earlier run
torchrun "${rendezvous[@]}" --nproc_per_node "$processes" --shutdown-timeout 600 \
  -m qwenvl.train.train_qwen "${arguments[@]}" "$@" || status=$?
# torchrun prints its own account of a failure; the reason, in one line, comes last.
if ((status)) && [[ -f $output/failure.txt ]]; then fail "$(cat "$output/failure.txt")"; fi
exit "$status"
