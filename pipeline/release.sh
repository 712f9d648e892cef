#!/usr/bin/env bash
# Looks whether what is here can be released; changes nothing but output/release, and uploads nothing.
#   bash pipeline/release.sh --check            wheel and sdist, each installed alone, tried; licences, SBOM; minutes, 3 GB
#   bash pipeline/release.sh --check --core     the same with the core alone, a server's client: under a minute
# Then: git tag "v$(.venv/bin/dyneval --version | cut -d' ' -f2)", and what CONTRIBUTING.md says of releases.
set -euo pipefail
# shellcheck source=pipeline/help.sh
source "$(dirname "${BASH_SOURCE[0]}")/help.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ ${1:-} == --check && (${2:-} == '' || ${2:-} == --core) ]] ||
  { echo "usage: bash pipeline/release.sh --check [--core]; see --help" >&2 && exit 2; }
extras='[local]'
[[ ${2:-} == '' ]] || extras=
output=$PWD/output/release
say() { printf '\n== %s\n' "$*"; }
[[ -x .venv/bin/uv ]] || bash pipeline/setup_env.sh
uv=("$PWD/.venv/bin/uv" --quiet --no-config)

say "Version"
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' dyneval/__init__.py)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+((a|b|rc)[0-9]+)?$ ]] || { echo "dyneval/__init__.py: no version, found '$version'" >&2 && exit 1; }
grep -q "^## $version\$" CHANGELOG.md || { echo "CHANGELOG.md has no section '## $version'" >&2 && exit 1; }
for tag in $(git tag --points-at HEAD 2>/dev/null | grep '^v' || true); do
  [[ $tag == "v$version" ]] || { echo "this commit has the tag $tag, and the package is $version" >&2 && exit 1; }
done
! grep -q '^## Unreleased$' CHANGELOG.md || echo "note: CHANGELOG.md has changes that are in no version; they are built, too"
[[ -z $(git status --porcelain 2>/dev/null) ]] || echo "note: there are changes that are not committed; they are built, too"
echo "$version"

say "Wheel and sdist"
rm -rf "$output"
mkdir -p "$output"
# The sdist first, the wheel from it: so the sdist is known to be whole.
"${uv[@]}" build --out-dir "$output" .
rm -f "$output/.gitignore"
ls -l "$output"

for built in "$output"/*.whl "$output"/*.tar.gz; do
  say "Installed alone: ${built##*/}$extras"
  folder=$output/env-${built##*.}
  "${uv[@]}" venv --python .venv/bin/python "$folder"
  "${uv[@]}" pip install --python "$folder/bin/python" -c constraints.txt "dyneval$extras @ file://$built"
  (
    cd "$output" # not the checkout: what is imported is what was installed
    told=$("$folder/bin/dyneval" --version)
    [[ $told == "dyneval $version" ]] || { echo "what was installed says '$told', not 'dyneval $version'" >&2 && exit 1; }
    "$folder/bin/dyneval" schema score >/dev/null
    "$folder/bin/dyneval" generate --list | sed -n 1,3p # head would end the pipe early, which fails the command before it
    [[ -z $extras ]] || HF_HUB_OFFLINE=1 "$folder/bin/dyneval" demo --prompts 1 --output "$folder/demo"
  )
done

say "Licences of what the wheel brings, and SBOM"
"$output/env-whl/bin/python" pipeline/licences.py >"$output/licences.md"
tail -n 3 "$output/licences.md"
# CycloneDX's own tool, beside the environment that it describes.
"${uv[@]}" tool run --from cyclonedx-bom==7.5.0 cyclonedx-py environment --output-reproducible \
  --pyproject pyproject.toml --of JSON -o "$output/sbom.cdx.json" "$output/env-whl/bin/python"
echo "$(grep -c '"bom-ref"' "$output/sbom.cdx.json") components in $output/sbom.cdx.json"

say "dyneval $version can be released: $output"
rm -rf "$output"/env-*
