# Scoring server for one GPU (NVIDIA driver 570 or newer and the NVIDIA container toolkit); torch brings CUDA along.
#
#   docker build -t dyneval .
#   docker run --rm --gpus all -p 8000:8000 -v dyneval-cache:/cache -e DYNEVAL_TOKEN dyneval \
#     serve --host 0.0.0.0 --checkpoint vcl-iisc/DynEval-Evaluator --subfolder DynEval-4B
#
# Other verbs work as well: docker run --rm --gpus all dyneval doctor
FROM python:3.12-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 HF_HOME=/cache/huggingface
WORKDIR /opt/dyneval

# Dependencies first: they change less often than the code.
COPY constraints.txt ./
RUN pip install -c constraints.txt torch transformers fastapi uvicorn prometheus-client python-multipart

COPY pyproject.toml README.md LICENSE ./
COPY dyneval dyneval
COPY Qwen3-VL/qwen-vl-finetune/qwenvl Qwen3-VL/qwen-vl-finetune/qwenvl
RUN pip install -c constraints.txt ".[serve]"

RUN useradd --create-home --uid 1000 dyneval && mkdir -p /cache && chown dyneval /cache
USER dyneval
VOLUME /cache
EXPOSE 8000
# A large student takes minutes to load.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15m \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# Docker's ten seconds may be too few to answer what was taken: docker stop --time 130.
STOPSIGNAL SIGTERM
ENTRYPOINT ["dyneval"]
CMD ["serve", "--host", "0.0.0.0"]
