# shellcheck shell=bash
# Sourced first by the scripts here: with --help a script prints the comment at its head, and ends.
case ${1:-} in
  -h | --help) sed -n '2,${/^#/!q;/^# shellcheck/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
esac
