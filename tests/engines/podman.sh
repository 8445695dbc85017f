# shellcheck shell=bash disable=SC1091,SC2034
# podman, with no machine but the lab: no systemd, folders of its own, and the runtime under test.
source "$ENGINES/common.sh"
export CONTAINERS_CONF=$FOLDER/containers.conf CONTAINERS_STORAGE_CONF=$FOLDER/storage.conf
RUN="podman run --cgroup-parent $PARENT"
STATE=/run/${RUNTIME##*/}

up() {
    make_rootfs
    hide_the_machine
    # podman asks a runtime for JSON in its log only when it knows the name. The ulimits are those of any user: higher
    # ones take CAP_SYS_RESOURCE, which not every machine's root has.
    cat >"$CONTAINERS_CONF" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
runtime = "$RUNTIME"
runtime_supports_json = ["${RUNTIME##*/}"]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "/run/engine/tmp"
[network]
network_config_dir = "$FOLDER/networks"
END
    cat >"$CONTAINERS_STORAGE_CONF" <<END
[storage]
driver = "overlay"
graphroot = "$FOLDER/storage"
runroot = "/run/engine/storage"
END
    tar --directory "$FOLDER/rootfs" --create . | podman import --quiet - box
}

# An image of a system with systemd: its resolv.conf leads to a file that only the running system has.
linked_image() {
    cp -a "$FOLDER/rootfs" "$FOLDER/linked"
    ln -sfn ../run/systemd/resolve/stub-resolv.conf "$FOLDER/linked/etc/resolv.conf"
    tar --directory "$FOLDER/linked" --create . | podman import --quiet - linked
}

# Five times at most, for conmon hears of the size from a pipe and not in a fixed order.
first_size() {
    for _ in 1 2 3 4 5; do
        if on_a_terminal "$1" | tee "$FOLDER/size" | grep -q '40 100'; then break; fi
    done
    cat "$FOLDER/size"
}

down() {
    podman rm --all --force --time 0
    podman unmount --all
    umount --lazy "$FOLDER/storage/overlay" 2>/dev/null
    show_the_machine
}
