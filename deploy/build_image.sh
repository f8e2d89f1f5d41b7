#!/bin/sh
# Builds one of Parley's images with buildah: no Docker daemon, and no image registry if there is none. Needs root.
#
#   deploy/build_image.sh cpu [NAME]     # Dockerfile, as parley:cpu
#   deploy/build_image.sh gpu [NAME]     # Dockerfile.gpu, as parley:gpu
#
# If the Dockerfile's base image cannot be pulled, debootstrap makes a stand-in from Debian's packages, with Python 3.11
# and without security updates. During the build, pip uses this machine's configuration (PIP_* variables, pip.conf), of
# which only empty mount points remain in the image. Variables:
#
#   STORAGE_DRIVER     buildah's storage driver. Default: overlay if the kernel mounts it, else vfs, which copies the
#                      whole image for each layer and container.
#   PARLEY_BASE_IMAGE  registry or debian. Default: registry, and debian if that fails.
set -eu

fail() {
    echo "parley: $1" >&2
    exit 1
}

build=${1:-}
case $build in
cpu) file=Dockerfile needed=20 ;;
gpu) file=Dockerfile.gpu needed=28 ;;
*)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
name=${2:-parley:$build}
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
# Not into /proc or /sys, which debootstrap mounts below it and an interruption may leave.
trap 'rm -rf --one-file-system "$scratch"' EXIT
trap 'exit 130' INT TERM

[ "$(id -u)" = 0 ] || fail "building without Docker needs root: try sudo, or \`docker build -f $file -t $name .\`."
command -v buildah >/dev/null || fail "buildah is missing. Install it: apt-get install buildah debootstrap"

# chroot isolation, and vfs if overlay does not mount, also work without user namespaces: in containers and sandboxes.
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}
if [ -z "${STORAGE_DRIVER:-}" ]; then
    mkdir -p "$scratch/lower" "$scratch/upper" "$scratch/work" "$scratch/merged"
    STORAGE_DRIVER=vfs
    layers="lowerdir=$scratch/lower,upperdir=$scratch/upper,workdir=$scratch/work"
    if mount -t overlay overlay -o "$layers" "$scratch/merged" 2>"$scratch/log"; then
        umount "$scratch/merged"
        STORAGE_DRIVER=overlay
    fi
fi
export STORAGE_DRIVER
[ "$STORAGE_DRIVER" = vfs ] && [ "$build" = gpu ] && needed=48

storage=$(buildah info --format '{{.store.GraphRoot}}' 2>"$scratch/log") || fail "buildah does not work: $(tail -n 1 "$scratch/log")"
free=$(($(df --output=avail -k "$storage" | tail -n 1) / 1048576))
[ "$free" -ge "$needed" ] || fail "$storage has $free GB free, but the build needs $needed GB. Free some space and try again."

base=$(sed -n 's/^FROM //p' "$root/$file")
origin=${PARLEY_BASE_IMAGE:-any}
if [ "$origin" = any ]; then
    origin=registry
    timeout 60 buildah pull --quiet "docker.io/library/$base" >"$scratch/log" 2>&1 || origin=debian
fi
if [ "$origin" = debian ]; then
    wanted=$base
    base=localhost/parley-base
    if ! buildah inspect --type image "$base" >"$scratch/log" 2>&1; then
        echo "Making a base image from Debian's packages in place of $wanted"
        command -v debootstrap >/dev/null || fail "debootstrap is missing. Install it: apt-get install debootstrap"
        mirror=$(apt-cache policy base-files | sed -n 's/^ *[0-9]* \(https\{0,1\}:[^ ]*\) .*/\1/p' | head -n 1)
        debootstrap --variant=minbase bookworm "$scratch/rootfs" $mirror >"$scratch/log" 2>&1 ||
            fail "debootstrap failed: $(grep -v '^I:' "$scratch/log" | tail -n 1)"
        ln -s /usr/bin/python3.11 "$scratch/rootfs/usr/local/bin/python"
        rm -f "$scratch"/rootfs/var/cache/apt/archives/*.deb
        container=$(buildah from scratch)
        buildah add --quiet "$container" "$scratch/rootfs" / >/dev/null
        install='apt-get update && apt-get install -y --no-install-recommends python3.11 python3.11-venv ca-certificates
            rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb'
        buildah run "$container" -- sh -ec "export DEBIAN_FRONTEND=noninteractive; $install" >"$scratch/log" 2>&1 ||
            fail "Python cannot be installed in the base image: $(grep '^E:' "$scratch/log" | tail -n 1)"
        buildah config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
        buildah commit --quiet --rm "$container" "$base" >/dev/null
        rm -rf "$scratch/rootfs"
    fi
fi

# pip's configuration: one section, the last value of each option, and the folders and files that it names.
python3 -m pip config list 2>/dev/null |
    awk -F= '{ sub(/^[^=]*\./, ""); option = $1; sub(/^[^=]*=/, ""); gsub(/^'\''|'\''$/, ""); value[option] = $0 }
             END { print "[global]"; for (option in value) print option " = " value[option] }' >"$scratch/pip.conf"
set -- --volume "$scratch/pip.conf:/etc/pip.conf:ro"
for path in $(grep -oE '(= |file://| )/[^ ]+' "$scratch/pip.conf" | sed -E 's#^(= |file://| )##; s#/simple/?$##' | sort -u); do
    [ -e "$path" ] && set -- "$@" --volume "$path:$path:ro"
done

began=$(date +%s)
echo "Building $name from $file on $base ($STORAGE_DRIVER)"
# Docker's format, because OCI's has no health checks. Under vfs one layer, because each further one copies the image;
# else a layer for each step, because storing a layer needs four times its size.
layers=true
[ "$STORAGE_DRIVER" = vfs ] && layers=false
buildah build --format docker --layers=$layers --pull=never --from "$base" "$@" --file "$root/$file" --tag "$name" "$root" \
    >"$scratch/log" 2>&1 || {
    cp "$scratch/log" "$root/.image-build.log"
    fail "the build failed: $(grep -iE 'error|no space' "$scratch/log" | tail -n 1) (details: .image-build.log)"
}
bytes=$(buildah images --json "$name" | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["size"])')
echo "Built $name: $bytes in $(($(date +%s) - began)) s"
