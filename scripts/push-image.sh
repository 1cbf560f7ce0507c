#!/usr/bin/env bash
# Pushes an image to its registry and prints name= and digest= of what is there then: scripts/push-image.sh NAME:TAG.
# REGISTRY_USER and REGISTRY_TOKEN log in.
set -euo pipefail
image=$1
registry=${image%%/*}
printf '%s' "$REGISTRY_TOKEN" | docker login --username "$REGISTRY_USER" --password-stdin "$registry" >&2
docker push "$image" >&2
printf 'name=%s\n' "${image%:*}"
printf 'digest=%s\n' "$(docker inspect --format '{{index .RepoDigests 0}}' "$image" | sed 's/.*@//')"
