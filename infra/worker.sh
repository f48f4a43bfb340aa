#!/bin/sh
# A Prefect worker whose flow runs are Ray drivers. A driver must sit on a Ray node, and the Ray Client port stays
# closed, so this container joins the cluster first, with no CPUs of its own: no training lands here.
set -eu
ray start --address="$RAY_ADDRESS" --node-ip-address="$(hostname -i | cut -d' ' -f1)" --num-cpus=0 --num-gpus=0 \
    --object-store-memory=200000000 --disable-usage-stats \
    --node-manager-port=6380 --object-manager-port=6381 --runtime-env-agent-port=6382 \
    --dashboard-agent-grpc-port=6383 --dashboard-agent-listen-port=6384 --metrics-export-port=6385 \
    --min-worker-port=20000 --max-worker-port=20100
exec prefect worker start --pool genpipe --type process --with-healthcheck
