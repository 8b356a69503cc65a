#!/bin/sh
# Starts the head of a pool, with ports that do not change, and stays: one service of the machine.
#
#   sh head.sh 10.0.0.1              the head's own address; no job trains here
#   sh head.sh 10.0.0.1 --num-gpus=4 or its GPUs are of the pool too
#
# Set before, where it differs: RAY_AUTH_TOKEN_PATH (the token's file, the same on all machines),
# NLPKIT_POOL (the policy), AWS_* (where the storage is S3), whatever launch.secrets names.

address=${1:?the address of this machine, as the others see it}
shift
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-/etc/nlpkit/token}"
# Where statistics are off, a head still reports that they are: to no address that there is.
export RAY_USAGE_STATS_ENABLED=0 RAY_USAGE_STATS_REPORT_URL=none
exec ray start --head --block \
    --node-ip-address="$address" \
    --port=6379 \
    --dashboard-host="$address" --dashboard-port=8265 \
    --node-manager-port=6380 --object-manager-port=6381 \
    --runtime-env-agent-port=6382 \
    --dashboard-agent-listen-port=6383 --dashboard-agent-grpc-port=6384 \
    --metrics-export-port=6385 \
    --ray-client-server-port=10001 \
    --min-worker-port=10002 --max-worker-port=10999 \
    --object-store-memory=1000000000 \
    --num-gpus=0 "$@"
