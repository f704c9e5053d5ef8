#!/bin/sh
# Starts the local service, upgrades it with simdeploy's runner while a prober asks it, measures that, and stops it again.
# Run from the project's root, with simdeploy on the PATH: make local
set -eu
work=$(mktemp -d)
SIMDEPLOY_LOCAL=$work/service SIMDEPLOY_STATE=$work/hosts
export SIMDEPLOY_LOCAL SIMDEPLOY_STATE
trap 'python3 scenarios/local/ctl.py down; rm -rf "$work"' EXIT
url=$(python3 scenarios/local/ctl.py up)
simdeploy plan scenarios/local/upgrade.yaml --strategy canary -o "$work/plan.json"
simdeploy run "$work/plan.json" --journal "$work/journal" --transport local --probe "$url" --yes || {
  [ $? = 9 ] && simdeploy resume "$work/journal" --yes # it was later than 99 of 100 and paused; on a busy machine that happens
}
simdeploy measure "$work/plan.json" "$work/journal"
