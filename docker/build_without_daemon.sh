#!/usr/bin/env bash
# Builds the image as transform:test where there is no Docker daemon, by podman; `--install` fetches just that, as
# root on Debian. Exits with 77 where it cannot be had, and says why. Where no registry of images can be reached, the
# base is made of Debian's packages: another way to the same Python.
set -euo pipefail
cd "$(dirname "$0")/.."
. docker/common.sh

UNAVAILABLE=77
PACKAGES=(podman buildah runc mmdebstrap)
SUITE=trixie # as in the Dockerfile's own base

unavailable() {
    printf 'no image is built: %s\n' "$*" >&2
    exit $UNAVAILABLE
}

install() {
    [ "$(command -v podman runc mmdebstrap | wc -l)" -lt 3 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
        unavailable "podman is installed as root on Debian only"
    fi
    { apt-get update -qq && apt-get install -qq --yes --no-install-recommends "${PACKAGES[@]}"; } > /dev/null 2>&1 \
        || unavailable "${PACKAGES[*]} cannot be installed by apt-get"
}

debian_base() { # NAME
    podman image exists "$1" && return
    command -v mmdebstrap > /dev/null || unavailable "there is no registry of images, and no mmdebstrap to do without"
    local directory
    directory=$(mktemp -d)
    # libstdc++6 is in every Debian image, by way of apt; the rest of apt is not needed.
    mmdebstrap --quiet --variant=essential --include=python3,python3-pip,ca-certificates,libstdc++6 \
        --aptopt='APT::Install-Recommends "false"' --dpkgopt=path-exclude='/usr/share/doc/*' \
        --dpkgopt=path-exclude='/usr/share/man/*' --dpkgopt=path-exclude='/usr/share/locale/*' \
        $SUITE "$directory/base.tar" http://deb.debian.org/debian > "$directory/log" 2>&1 \
        || unavailable "there is no registry of images, and none of Debian's packages: $(tail -n 1 "$directory/log")"
    podman import --quiet "$directory/base.tar" "$1" > /dev/null
    rm -r "$directory"
}

if [ "${1:-}" = --install ]; then
    install
    exit
fi
command -v podman > /dev/null || unavailable "there is no podman ($0 --install fetches it)"
[ "$(id -u)" = 0 ] || unavailable "building without a daemon takes root here"
BASE=${BASE:-$(sed -n 's/^ARG BASE=//p' docker/Dockerfile)}
if ! podman image exists "$BASE" && ! timeout 60 podman pull --quiet "docker.io/library/$BASE" > /dev/null 2>&1; then
    BASE=localhost/transform-base:$SUITE
    debian_base "$BASE"
fi
# Certificates are those of this machine, which may trust its own index of packages; it also decides the index and options.
certificates=()
[ ! -d /etc/ssl/certs ] || certificates=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)
run podman build --isolation chroot --network host --format docker --quiet \
    --file docker/Dockerfile --tag transform:test --build-arg BASE="$BASE" \
    ${PIP_INDEX_URL:+--build-arg PIP_INDEX_URL} ${certificates[@]+"${certificates[@]}"} .
