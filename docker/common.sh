# shellcheck shell=bash
# What the scripts share: they print the plain commands that change or show something, and say what is missing
# before they run any.

run() { # COMMAND ARGUMENT...
    local word quote="'" line='$'
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./:=,@%+-]* | '') line+=" $quote${word//$quote/$quote\\$quote$quote}$quote" ;;
            *) line+=" $word" ;;
        esac
    done
    printf '%s\n' "$line" >&2
    "$@"
}

fail() { # MESSAGE
    printf '%s\n' "$*" >&2
    exit 2
}

need() { # VARIABLE MEANING
    [ -n "${!1:-}" ] || fail "$1 is not set: $2"
}

need_program() { # NAME HOW-TO-GET-IT
    command -v "$1" > /dev/null || fail "there is no $1 command here: $2"
}

need_aws() {
    need_program aws "install the AWS CLI, see https://aws.amazon.com/cli"
    AWS_REGION=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
    need AWS_REGION "the region to deploy to, as in export AWS_REGION=eu-central-1"
    export AWS_REGION AWS_DEFAULT_REGION=$AWS_REGION AWS_PAGER=
    aws sts get-caller-identity > /dev/null \
        || fail "AWS does not know who you are: log in first (aws sso login, or aws configure)"
}

REPOSITORY=${REPOSITORY:-jsonl-transform}
ARCHITECTURE=${ARCHITECTURE:-X86_64}

# The image's tag says what is in it, so that another calculation is another tag, and a deployment of it an update.
image_tag() {
    {
        echo "$ARCHITECTURE ${BASE:-}"
        {
            find transform runner -type f ! -name '*.pyc' ! -name 'libkernel.*' ! -name 'powers.h*'
            find docker -maxdepth 1 -type f \( -name '*.py' -o -name '*.csv' -o -name '*.json' -o -name '*.jsonl' \)
            printf '%s\n' docker/Dockerfile pyproject.toml requirements-run.lock requirements-build.lock
        } | LC_ALL=C sort | while IFS= read -r file; do echo "$file $(git hash-object "$file")"; done
    } | git hash-object --stdin | cut -c 1-12
}

repository_uri() {
    aws ecr describe-repositories --repository-names "$REPOSITORY" --query 'repositories[0].repositoryUri' \
        --output text 2> /dev/null
}
