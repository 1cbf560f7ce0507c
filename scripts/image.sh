#!/usr/bin/env bash
# Builds the container image: scripts/image.sh [NAME]. BASE_IMAGE is what it is built on. Needs a running Docker engine.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:-elemta:latest}
arguments=()
[ -z "${BASE_IMAGE:-}" ] || arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
[ -z "${BUILD_NETWORK:-}" ] || arguments+=(--network "$BUILD_NETWORK")
docker build "${arguments[@]}" --tag "$name" .
docker run --rm --read-only --cap-drop ALL --security-opt no-new-privileges "$name" check
