#!/usr/bin/env bash
# Installs what the tests and the demo need and this machine lacks: the server
# programs of PostgreSQL 15 or newer, a C compiler for the oracle module, and as
# root the tools that make and mount a file system.
# It installs as root on Debian and its relatives, and says what to do elsewhere.
set -euo pipefail

# have_postgres looks where internal/pgtest does: in $PG_BIN alone if that is
# set, else on the PATH and where Debian installs server programs.
have_postgres() {
  local dir major places
  places=("$(dirname "$(command -v initdb || echo /nowhere/initdb)")" /usr/lib/postgresql/*/bin)
  [ -z "${PG_BIN:-}" ] || places=("$PG_BIN")
  for dir in "${places[@]}"; do
    [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] || continue
    major=$("$dir/postgres" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
    [ "${major:-0}" -ge 15 ] && return 0
  done
  return 1
}

missing=()
have_postgres || missing+=(postgresql)
command -v "${CC:-gcc}" >/dev/null || missing+=(gcc libc6-dev)
# The power cut test mounts a file system, which takes root.
if [ "$(id -u)" -eq 0 ] && [ "$(uname)" = Linux ] && [ "${DREAMFEED_POWERCUT:-}" != skip ]; then
  PATH="$PATH:/usr/sbin:/sbin"
  command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
  command -v losetup >/dev/null || missing+=(mount)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "deps: this machine lacks: ${missing[*]}" >&2
  echo "deps: install the server programs of PostgreSQL 15 or newer and a C compiler; PG_BIN may name the directory of initdb and postgres" >&2
  exit 1
fi

# Packages must not start a server of their own.
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
echo "deps: installing ${missing[*]}" >&2
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
have_postgres || { echo "deps: the PostgreSQL of this release is older than 15: add apt.postgresql.org, or set PG_BIN" >&2; exit 1; }
