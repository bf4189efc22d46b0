#!/usr/bin/env bash
# The stack in an account: `stack.sh deploy fargate|ec2`, `status`, `smoke`, `destroy`. `make help` describes each.
set -euo pipefail
cd "$(dirname "$0")/.."
named=${ARCHITECTURE:-} # before it is given a default
. docker/common.sh

STACK=${STACK:-jsonl-transform}
WAIT_S=${WAIT_S:-1800} # from zero tasks the first object may wait 15 minutes for SQS's metrics, and then for a task

of_stack() { # QUERY
    aws cloudformation describe-stacks --stack-name "$STACK" --query "Stacks[0].$1" --output text
}

output() { # NAME
    of_stack "Outputs[?OutputKey=='$1'].OutputValue"
}

parameter() { # NAME
    of_stack "Parameters[?ParameterKey=='$1'].ParameterValue" 2> /dev/null || true
}

need_stack() {
    of_stack StackStatus > /dev/null 2>&1 \
        || fail "there is no stack $STACK in $AWS_REGION: make deploy-fargate, or name another by STACK=…"
}

# The image of what this clone holds, if it is in ECR.
pushed_image() {
    local uri digest
    uri=$(repository_uri) || return 0
    digest=$(aws ecr describe-images --repository-name "$REPOSITORY" --image-ids imageTag="$(image_tag)" \
        --query 'imageDetails[0].imageDigest' --output text 2> /dev/null) || return 0
    case $digest in sha256:*) echo "$uri:$(image_tag)" ;; esac
}

deploy() { # KIND
    # Where there is a stack already, what it has stays unless something else is named.
    VPC=${VPC:-$(parameter pVPCId)} SUBNETS=${SUBNETS:-$(parameter pSubnetIds)}
    ARCHITECTURE=${named:-$(parameter pArchitecture)} ARCHITECTURE=${ARCHITECTURE:-X86_64}
    need VPC "the VPC to work in, as in make deploy-$1 VPC=vpc-… SUBNETS=subnet-…,subnet-…"
    need SUBNETS "two or more subnets of $VPC with commas between them"
    need_aws
    IMAGE=${IMAGE:-$(pushed_image)}
    need IMAGE "there is no $REPOSITORY:$(image_tag) in ECR; make push first (with the same ARCHITECTURE and BASE)"
    # What a first deployment that failed leaves behind holds nothing, and cannot be updated.
    case $(of_stack StackStatus 2> /dev/null || true) in
        ROLLBACK_COMPLETE | ROLLBACK_FAILED) delete "$STACK" ;;
    esac
    local given=(pDockerImage="$IMAGE" pVPCId="$VPC" pSubnetIds="$SUBNETS" pArchitecture="$ARCHITECTURE")
    [ -z "${CALCULATION:-}" ] || given+=(pCalculation="$CALCULATION")
    local more=()
    read -r -a more <<< "${PARAMETERS:-}"
    run aws cloudformation deploy --stack-name "$STACK" --template-file "${TEMPLATE:-cfn/ecs-$1.yaml}" \
        --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset \
        --parameter-overrides "${given[@]}" ${more[@]+"${more[@]}"} \
        || { why "$STACK"; exit 1; }
    deploy_monitoring
    status
}

# Alarms and the dashboard, as a stack beside that: what its parameters say are outputs of the other.
deploy_monitoring() {
    local name outputs given=()
    case $(STACK=$STACK-monitoring of_stack StackStatus 2> /dev/null || true) in
        ROLLBACK_COMPLETE | ROLLBACK_FAILED) delete "$STACK-monitoring" ;;
    esac
    outputs=$(of_stack 'Outputs[].[OutputKey, OutputValue]')
    for name in TaskFamily Cluster Service QueueName BackfillQueueName DeadLetterQueueName LogGroup \
        AlarmTopicArn MaxMessageAge MaxBackfillAge; do
        given+=("p$name=$(awk -v name="o$name" '$1 == name { print $2 }' <<< "$outputs")")
    done
    run aws cloudformation deploy --stack-name "$STACK-monitoring" --no-fail-on-empty-changeset \
        --template-file "${MONITORING_TEMPLATE:-cfn/monitoring.yaml}" --parameter-overrides "${given[@]}" \
        || { why "$STACK-monitoring"; exit 1; }
}

why() { # STACK
    run aws cloudformation describe-stack-events --stack-name "$1" --output text \
        --query "StackEvents[?contains(ResourceStatus, 'FAILED')].[LogicalResourceId, ResourceStatusReason]" >&2 || true
}

status() {
    run aws cloudformation describe-stacks --stack-name "$STACK" --output text \
        --query 'Stacks[0].[StackStatus, Outputs[].[OutputKey, OutputValue]]'
    run aws ecs describe-services --cluster "$(output oCluster)" --services "$(output oService)" --output table \
        --query 'services[0].{desired: desiredCount, pending: pendingCount, running: runningCount}'
    local queue
    for queue in oQueueUrl oDeadLetterQueueUrl; do
        run aws sqs get-queue-attributes --queue-url "$(output $queue)" --output table --query Attributes \
            --attribute-names ApproximateNumberOfMessages ApproximateNumberOfMessagesNotVisible
    done
}

# What the stack computes, as options of `transform run`.
calculation() {
    local text=/app/calculation.py where=
    if of_stack StackStatus > /dev/null 2>&1; then
        text=$(of_stack "Parameters[?ParameterKey=='pCalculation'].ParameterValue")
        where=$(of_stack "Parameters[?ParameterKey=='pWhere'].ParameterValue")
    fi
    case $text in
        /app/*) options=(--calculation "docker/${text#/app/}") ;;
        *) options=(--expr "$text" ${where:+--where "$where"}) ;;
    esac
}

smoke() {
    need_aws
    if [ -z "${BUCKET:-}" ] || [ -z "${OUTPUT_BUCKET:-}" ]; then
        need_stack
        BUCKET=${BUCKET:-$(output oInputBucket)} OUTPUT_BUCKET=${OUTPUT_BUCKET:-$(output oOutputBucket)}
    fi
    local sample=sample_data/yelp_businesses.json key deadline options=()
    key=smoke/$(date -u +%Y%m%dT%H%M%SZ)-$$/yelp_businesses.json # a new one: an output there now is of this object
    mkdir -p build/smoke
    calculation
    run .venv/bin/transform run --quiet $sample build/smoke/expected.json "${options[@]}"
    run aws s3 cp --only-show-errors $sample "s3://$BUCKET/$key"
    echo "waiting up to $WAIT_S s for s3://$OUTPUT_BUCKET/output/$key" >&2
    deadline=$((SECONDS + WAIT_S))
    until aws s3api head-object --bucket "$OUTPUT_BUCKET" --key "output/$key" > /dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] \
            || fail "no output after $WAIT_S s: make status shows the queues and tasks, and where the logs are"
        sleep 5
    done
    run aws s3 cp --only-show-errors "s3://$OUTPUT_BUCKET/output/$key" build/smoke/found.json
    run cmp build/smoke/expected.json build/smoke/found.json \
        || fail "that is not what this clone makes of the sample: is another calculation deployed?"
    echo "good: s3://$OUTPUT_BUCKET/output/$key is what \`transform run\` makes of $sample"
}

delete() { # STACK
    run aws cloudformation delete-stack --stack-name "$1"
    run aws cloudformation wait stack-delete-complete --stack-name "$1" || { why "$1"; exit 1; }
}

destroy() {
    need_aws
    need_stack
    local kept group cluster service
    kept=("$(output oInputBucket)" "$(output oOutputBucket)")
    group=$(output oAutoScalingGroup) cluster=$(output oCluster) service=$(output oService)
    if [ -n "$group" ] && [ "$group" != None ]; then # an instance that ECS protects would keep the stack from going
        run aws ecs update-service --cluster "$cluster" --service "$service" --desired-count 0 > /dev/null
        # After an attempt that was interrupted it is gone already. If it is not, the stack's own deletion says so.
        run aws autoscaling delete-auto-scaling-group --auto-scaling-group-name "$group" --force-delete || true
    fi
    delete "$STACK-monitoring" # no error if it does not exist
    delete "$STACK"
    printf '%s is gone. Kept: s3://%s s3://%s\n' "$STACK" "${kept[@]}"
}

case ${1:-} in
    deploy) case ${2:-} in fargate | ec2) deploy "$2" ;; *) fail "usage: $0 deploy fargate|ec2" ;; esac ;;
    status) need_aws && need_stack && status ;;
    smoke) smoke ;;
    destroy) destroy ;;
    *) fail "usage: $0 deploy fargate|ec2, or status, smoke, destroy" ;;
esac
