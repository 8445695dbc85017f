# shellcheck shell=bash disable=SC1091,SC2034
# containerd with ctr: a daemon of our own, on a socket of its own. The containers' group is named by the namespace.
source "$ENGINES/common.sh"
export CONTAINERD_ADDRESS=/run/engine/socket CONTAINERD_NAMESPACE=${PARENT#/}
RUN="ctr run --runc-binary $RUNTIME"
STATE=/run/containerd/runc/$CONTAINERD_NAMESPACE

up() {
    make_rootfs
    hide_the_machine
    cat >"$FOLDER/config.toml" <<END
version = 2
root = "$FOLDER/data"
state = "/run/engine/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$CONTAINERD_ADDRESS"
END
    setsid containerd --config "$FOLDER/config.toml" </dev/null &>"$FOLDER/log" &
    echo $! >"$FOLDER/pid"
    eventually ctr version
    make_image
    ctr image import "$FOLDER/image.tar"
}

down() {
    end_everybody
    ctr task ls --quiet | xargs --no-run-if-empty ctr task rm --force
    # A shim stays as long as its task; where even that did not help, it would outlive us.
    xargs --no-run-if-empty kill -KILL <<<"$(pidof containerd-shim-runc-v2)"
    kill "$(<"$FOLDER/pid")"
    eventually gone "$(<"$FOLDER/pid")"
    show_the_machine
}

# The memory that a container may take, told from outside, for ctr mounts no cgroups inside.
limit_of() { groups -path "*/$1" -exec cat {}/memory.limit_in_bytes {}/memory.max \; 2>/dev/null; }

gone() { [[ ! -d /proc/$1 ]]; }

# An image as the OCI lays it out: one layer, its configuration, a manifest, an index; each file under its own digest.
make_image() {
    local layer config manifest blobs=$FOLDER/image/blobs/sha256 media=application/vnd.oci.image
    mkdir -p "$blobs"
    layer=$(tar --directory "$FOLDER/rootfs" --create . | blob)
    config=$(printf '{"architecture":"%s","os":"linux","rootfs":{"type":"layers","diff_ids":[%s]}}' \
        "$(architecture)" "$(digest "$layer")" | blob)
    manifest=$(printf '{"schemaVersion":2,"config":%s,"layers":[%s]}' \
        "$(descriptor "$media.config.v1+json" "$config")" "$(descriptor "$media.layer.v1.tar" "$layer")" | blob)
    printf '{"schemaVersion":2,"manifests":[%s]}' \
        "$(descriptor "$media.manifest.v1+json" "$manifest" ',"annotations":{"io.containerd.image.name":"box"}')" \
        >"$FOLDER/image/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$FOLDER/image/oci-layout"
    tar --directory "$FOLDER/image" --create --file "$FOLDER/image.tar" .
}

# Keeps what comes on standard input, and prints the file's name: its digest.
blob() {
    local sum
    cat >"$blobs/new"
    sum=$(sha256sum <"$blobs/new")
    mv "$blobs/new" "$blobs/${sum%% *}"
    echo "$blobs/${sum%% *}"
}

digest() { printf '"sha256:%s"' "${1##*/}"; }
descriptor() { printf '{"mediaType":"%s","digest":%s,"size":%d%s}' "$1" "$(digest "$2")" "$(stat -c %s "$2")" "${3-}"; }
architecture() { if [[ $(uname -m) == aarch64 ]]; then echo arm64; else echo amd64; fi; }
