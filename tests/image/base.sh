#!/bin/sh
# Makes a base like pytorch/pytorch on this machine: Debian, its Python, and a CPU build of torch.
#
#   sh base.sh TAG PYTHON   PYTHON: one of Debian's version, whose pip fetches torch
#
# Needs root, debootstrap and buildah. The machine's certificates and pip settings come along.
set -eu
tag=$1 python=$2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
    bookworm "$root" > "$root.log"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root.log"
cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" || true
cp --dereference /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
{
    echo "[global]"
    echo "cert = /etc/ssl/certs/ca-certificates.crt"
} > "$root/etc/pip.conf"
"$python" -m pip install --quiet --target "$root/usr/local/lib/python3.11/dist-packages" \
    --constraint "$(dirname "$0")/../../constraints.txt" torch
container=$(buildah from scratch)
buildah add --quiet "$container" "$root" /
buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit --quiet --rm "$container" "$tag"
