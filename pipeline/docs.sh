#!/usr/bin/env bash
# Builds the documentation site, without network after set-up: bash pipeline/docs.sh [folder]   -> output/docs/index.html
# To search in it: python3 -m http.server --directory output/docs
# Fails on a link or anchor that leads nowhere, and on a page that would load something from elsewhere.
set -euo pipefail
# shellcheck source=pipeline/help.sh
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
site=$(realpath -m "${1:-output/docs}")
# mkdocs empties the folder that it builds into.
if [[ -n $(ls -A "$site" 2>/dev/null) && ! -d $site/assets/javascripts ]]; then
  echo "docs: $site holds something else than a site that was built here; name an empty folder" >&2
  exit 1
fi
bash pipeline/setup_env.sh docs
# mkdocs-material tells of its makers' plans at each build.
NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --clean --site-dir "$site"
.venv-docs/bin/python pipeline/docs/check.py "$site"
