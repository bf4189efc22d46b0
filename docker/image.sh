#!/usr/bin/env bash
# Builds the worker's image (`image.sh build`), and pushes it to ECR (`image.sh push`). `make image`, `make push`.
set -euo pipefail
cd "$(dirname "$0")/.."
. docker/common.sh

ENGINE=${ENGINE:-docker} # podman does it as well

build() { # NAME
    local platform=linux/amd64 options=()
    [ "$ARCHITECTURE" = X86_64 ] || platform=linux/arm64
    [ -z "${BASE:-}" ] || options+=(--build-arg "BASE=$BASE")
    [ -z "${PIP_INDEX_URL:-}" ] || options+=(--build-arg PIP_INDEX_URL) # its value may hold a password
    [ "$ENGINE" != podman ] || options+=(--format docker) # the other format has no health checks
    run "$ENGINE" build --platform "$platform" --file docker/Dockerfile --tag "$1" \
        --build-arg "VERSION=${1##*:}" --build-arg "REVISION=$(git rev-parse HEAD 2> /dev/null || echo unknown)" \
        ${options[@]+"${options[@]}"} .
}

need_engine() {
    case $ARCHITECTURE in X86_64 | ARM64) ;; *) fail "ARCHITECTURE is $ARCHITECTURE, expected X86_64 or ARM64" ;; esac
    need_program "$ENGINE" "install Docker, or set ENGINE=podman"
    need_program git "install it; the image's tag is made by it"
    "$ENGINE" info > /dev/null 2>&1 || fail "$ENGINE does not answer: is it running, and may you use it?"
}

push() {
    need_engine
    need_aws
    local uri
    if ! uri=$(repository_uri); then
        run aws ecr create-repository --repository-name "$REPOSITORY" --image-scanning-configuration scanOnPush=true \
            --output text --query repository.repositoryArn
        uri=$(repository_uri)
    fi
    build "$uri:$(image_tag)"
    # Not by way of run: what goes through the pipe is a password.
    echo "\$ aws ecr get-login-password | $ENGINE login --username AWS --password-stdin ${uri%%/*}" >&2
    aws ecr get-login-password | "$ENGINE" login --username AWS --password-stdin "${uri%%/*}"
    run "$ENGINE" push "$uri:$(image_tag)"
}

case ${1:-} in
    build)
        need_engine
        build "$REPOSITORY:$(image_tag)"
        run "$ENGINE" tag "$REPOSITORY:$(image_tag)" "$REPOSITORY:latest"
        ;;
    push) push ;;
    *) fail "usage: $0 build|push" ;;
esac
