#!/usr/bin/env bash
# Step 4: the preflight check, then curriculum stage 1 and stage 2.
#   bash pipeline/4_finetune.sh [settings file]   -> $OUTPUT/train/dyneval_{2b,4b}_stage{1_t2ia,2_iqa}/
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need "$OUTPUT/instruct/dynevalinstruct_t2ia.json" "Step 3 writes it: bash pipeline/3_distill_annotations.sh $settings"
enter_venv
export DYNEVALINSTRUCT_T2IA_ANNOTATION=$OUTPUT/instruct/dynevalinstruct_t2ia.json
export DYNEVALINSTRUCT_IQA_ANNOTATION=$OUTPUT/instruct/dynevalinstruct_iqa.json
export DYNEVALINSTRUCT_T2IA_DATA=$OUTPUT/gendb DYNEVALINSTRUCT_IQA_DATA=$OUTPUT/gendb
export OUTPUT_ROOT=$OUTPUT/train
[[ -z ${MODEL:-} ]] || export MODEL_NAME_OR_PATH=$MODEL
cd Qwen3-VL/qwen-vl-finetune
# Of both stages: a mistake in the second one's would show when the first has run.
export DATASET_USE=dynevalinstruct_t2ia,${STAGE2_DATASETS:-dynevalinstruct_iqa}
python3 scripts/validate_dyneval_train_setup.py --model "${MODEL:-Qwen/Qwen3-VL-${STUDENT^^}-Instruct}" "${TRAIN_ARGS[@]}"
DATASET_USE='' bash "scripts/sft_qwen_3_vl_$STUDENT.sh" 1 "${TRAIN_ARGS[@]}"
DATASET_USE=${STAGE2_DATASETS:-} bash "scripts/sft_qwen_3_vl_$STUDENT.sh" 2 "${TRAIN_ARGS[@]}"
