# Scoring server for one GPU. Needs the NVIDIA container toolkit and a driver for torch's CUDA 13 (580 or newer).
#
#   docker build -t dyneval .
#   docker run --rm --gpus all -p 8000:8000 -v dyneval-cache:/cache -e DYNEVAL_TOKEN dyneval \
#     serve --host 0.0.0.0 --checkpoint dyneval-4b
#
# Other verbs work as well: docker run --rm --gpus all dyneval doctor
# Tokens (DYNEVAL_TOKEN, HF_TOKEN) are given when it runs; nothing in the image holds one. A student on disk is mounted,
# and readable by user 1000: -v $PWD/output:/models:ro ... --checkpoint /models/dyneval_4b_stage2_iqa
# For --engine openai vLLM has an image of its own (vllm/vllm-openai); the command above then needs no GPU.
# `bash tests/image.sh` builds and tries the image on a machine without Docker.
# The index of all platforms as of 2026-10-01; docker buildx imagetools inspect python:3.11-slim-bookworm tells today's.
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# Without HOME's defaults: caches of the Hub and of compiled kernels belong on the volume.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache TRITON_CACHE_DIR=/cache/triton
WORKDIR /opt/dyneval

# Every package by version and hash, several GB that change less often than the code (pipeline/locks/update.sh).
COPY pipeline/locks/serve.txt ./
RUN pip install --root-user-action=ignore --require-hashes --no-deps -r serve.txt

COPY pyproject.toml README.md LICENSE ./
COPY dyneval dyneval
COPY Qwen3-VL/qwen-vl-finetune/qwenvl Qwen3-VL/qwen-vl-finetune/qwenvl
RUN pip install --root-user-action=ignore --no-deps --no-build-isolation . && pip check && dyneval --version

RUN groupadd --gid 1000 dyneval && useradd --create-home --uid 1000 --gid 1000 dyneval \
    && install -d -o 1000 -g 1000 /cache
# By number, so that a cluster that asks for runAsNonRoot can see that it is not root.
USER 1000:1000
WORKDIR /home/dyneval
VOLUME /cache
EXPOSE 8000
# A large student takes minutes to load and, the first time, to download. Of another verb or port this says nothing.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15m \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# Docker's ten seconds may be too few to answer what was taken: docker stop --time 130.
STOPSIGNAL SIGTERM
ENTRYPOINT ["dyneval"]
CMD ["serve", "--host", "0.0.0.0"]
