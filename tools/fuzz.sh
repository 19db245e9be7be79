#!/bin/bash
# Fuzzes every target of the module, two at a time, for the given time each
# (20s by default). Seeds are those of the targets and testdata/fuzz. A failure
# ends it, and prints what the target said and where Go put the failing input.
set -eu -o pipefail
cd "$(dirname "$0")/.."

: "${GO:=go}"
export GO TIME="${1:-20s}"

fuzz() {
  local package=$1 name=$2 out
  if ! out=$("$GO" test "$package" -run '^$' -fuzz "^$name\$" -fuzztime "$TIME" -parallel 1 2>&1); then
    # When the time ends during an execution Go may call that a failure, without
    # an input that fails.
    if ! grep -q '^ *context deadline exceeded$' <<<"$out" || grep -qE 'Failing input|seed corpus entry|panic' <<<"$out"; then
      printf '%s\n' "$out"
      exit 255 # which ends xargs
    fi
  fi
  echo "fuzzed $package $name: $(printf '%s\n' "$out" | grep '^fuzz:' | tail -1)"
}
export -f fuzz

"$GO" list -f '{{.ImportPath}}|{{.Dir}}|{{range .TestGoFiles}}{{.}} {{end}}{{range .XTestGoFiles}}{{.}} {{end}}' ./... |
  while IFS='|' read -r package dir files; do
    # shellcheck disable=SC2086 # the names are separate words
    [ -z "${files// /}" ] || (cd "$dir" && sed -n "s#^func \\(Fuzz[A-Za-z0-9_]*\\)(.*#$package \\1#p" $files)
  done |
  xargs -r -P 2 -L 1 bash -c 'fuzz "$0" "$1"'
