#!/usr/bin/env bash
# Builds and tries the image of Dockerfile where there is no Docker and no registry of images. Before a release, as root:
#   apt-get install buildah debootstrap && bash tests/image.sh [folder for 12 GB]
# In place of python:3.11-slim-bookworm stands Debian bookworm with its own Python 3.11. The container then runs as the
# image says, without a GPU: its user, `dyneval doctor`, and `dyneval serve` with the demo judge until it is ready.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scratch=$(realpath -m "${1:-${TMPDIR:-/tmp}/dyneval-image}")
bash pipeline/setup_env.sh
.venv/bin/hadolint Dockerfile

mkdir -p "$scratch"
export BUILDAH_ISOLATION=chroot TMPDIR=$scratch
buildah=(buildah --storage-driver overlay --root "$scratch/storage" --runroot "$scratch/run")
if [[ ! -d $scratch/debian ]]; then
  debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates bookworm "$scratch/part"
  # As in Docker's image of Python: `python`, and packages may be installed beside the system's.
  ln -s python3 "$scratch/part/usr/bin/python"
  rm -f "$scratch"/part/usr/lib/python3*/EXTERNALLY-MANAGED
  mv "$scratch/part" "$scratch/debian"
fi
# The registry of packages may stand behind a proxy that this machine has a certificate for.
cp /etc/ssl/certs/ca-certificates.crt "$scratch/debian/etc/ssl/certs/"
base=$("${buildah[@]}" from scratch)
"${buildah[@]}" copy --quiet "$base" "$scratch/debian" /
"${buildah[@]}" commit --quiet "$base" localhost/debian-python:latest
"${buildah[@]}" rm "$base"
"${buildah[@]}" build --network host --pull=never --from localhost/debian-python:latest --tag localhost/dyneval:latest .

student=$scratch/student.$$
.venv/bin/python -c 'import sys; from pathlib import Path; from dyneval.demo.weights import write_judge
write_judge(Path(sys.argv[1]))' "$student"
chmod -R go+rX "$student"
container=$("${buildah[@]}" from --pull=never localhost/dyneval:latest)
try() { "${buildah[@]}" run --network host --volume "$student:/models:ro" "$container" -- "$@"; }
trap '"${buildah[@]}" rm "$container" >/dev/null; rm -rf "$student"' EXIT
[[ $(try id -u) == 1000 ]] || { echo "image: it does not run as user 1000" >&2; exit 1; }
try dyneval doctor --checkpoint /models
# shellcheck disable=SC2016 # expanded in the container
try sh -c 'dyneval serve --host 127.0.0.1 --port 8023 --checkpoint /models & server=$!
  for _ in $(seq 120); do
    sleep 1
    python -c "import urllib.request as r; r.urlopen(\"http://127.0.0.1:8023/readyz\", timeout=4)" 2>/dev/null &&
      { echo "image: ready"; kill -TERM $server; wait $server; exit 0; }
  done
  echo "image: not ready after two minutes" >&2; exit 1'
