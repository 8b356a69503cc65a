#!/bin/sh
# Joins this machine and its GPUs to a pool, with ports that do not change, and stays.
#
#   sh worker.sh 10.0.0.1 10.0.0.2   the head's address, and this machine's own
#
# Set before, where it differs: RAY_AUTH_TOKEN_PATH (the token's file, the same on all machines),
# NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME (the network card of this address), AWS_* (where the
# storage is S3), whatever launch.secrets names.

head=${1:?the address of the head}
address=${2:?the address of this machine, as the others see it}
shift 2
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-/etc/nlpkit/token}"
export RAY_USAGE_STATS_ENABLED=0
exec ray start --block \
    --address="$head:6379" \
    --node-ip-address="$address" \
    --node-manager-port=6380 --object-manager-port=6381 \
    --runtime-env-agent-port=6382 \
    --dashboard-agent-listen-port=6383 --dashboard-agent-grpc-port=6384 \
    --metrics-export-port=6385 \
    --min-worker-port=10002 --max-worker-port=10999 \
    --object-store-memory=1000000000 \
    "$@"
