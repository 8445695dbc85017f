# shellcheck shell=bash
# What the three engines' scripts have in common. They are sourced, with these variables:
#   FOLDER   the engine's own folder      RUNTIME  the OCI runtime that it is to use
#   ROOTFS   what its image is made of    PARENT   the cgroup below which its containers go
set -o pipefail

# Tries for ten seconds, for what an engine does in the background.
eventually() {
    local end=$((SECONDS + 10))
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# Runs a command line as on a terminal of 40 rows and 100 columns (man 1 script), at which nobody types.
on_a_terminal() {
    [[ -p $FOLDER/nobody ]] || mkfifo "$FOLDER/nobody"
    script --quiet --return --command "stty rows 40 cols 100; $1" /dev/null <>"$FOLDER/nobody"
}

# The same with more in the clipboard than any pipe or terminal holds, 20,000 lines, pasted at once.
paste_on_a_terminal() {
    [[ -p $FOLDER/nobody ]] || mkfifo "$FOLDER/nobody"
    seq 20000 >"$FOLDER/nobody" &
    on_a_terminal "$1"
}

# What a container has mounted appears here when it was told to the host; it is the container's to take away, or ours.
umount_when_new() {
    eventually ls "$1/new" && ls "$1"
    umount "$1"
}

# The folders that engines and runtimes write to wherever their own data lies become empty ones, in this lab only.
hide_the_machine() {
    [[ -d /var/lib/cni ]] || { mkdir /var/lib/cni && touch "$FOLDER/made-cni"; }
    for place in /run /var/lib/cni /dev/shm; do mount -t tmpfs tmpfs "$place"; done
    mkdir -p /run/engine
}

# Our groups, in every tree of cgroups; the options are find's.
groups() {
    local tree
    for tree in /sys/fs/cgroup /sys/fs/cgroup/*/; do
        tree=${tree%/}
        [[ ! -d $tree$PARENT || $(stat --file-system --format %T "$tree") != cgroup* ]] || find "$tree$PARENT" -type d "$@"
    done
}

# Whoever a runtime has left in there ends first; one that is frozen cannot die before it is thawed.
end_everybody() {
    groups | while read -r group; do
        [[ ! -e $group/freezer.state ]] || echo THAWED >"$group/freezer.state"
        [[ ! -e $group/cgroup.freeze ]] || echo 0 >"$group/cgroup.freeze"
        xargs --no-run-if-empty kill -KILL <"$group/cgroup.procs"
    done
}

remove_groups() {
    end_everybody
    groups -depth -exec rmdir {} +
    [[ -z $(groups) ]]
}

# An engine leaves its bridge and its firewall rules on purpose. This network namespace is ours.
show_the_machine() {
    local bridge
    for bridge in $(ip -brief link show type bridge | cut -d' ' -f1); do ip link delete "$bridge"; done
    nft flush ruleset
    eventually remove_groups
    for place in /dev/shm /var/lib/cni /run; do umount --lazy "$place"; done
    [[ ! -e $FOLDER/made-cni ]] || rmdir /var/lib/cni
}

# What a runtime has left behind: groups below our parent (conmon's is podman's own), and its state.
left() {
    groups -mindepth 1 ! -name conmon
    [[ ! -d $STATE ]] || find "$STATE" -mindepth 1 ! -path '*/.cache*'
}

# A copy of the root filesystem with some things more: a program that tells the limits, of cgroup v1 or v2; working directories
# that one user alone may enter; a link without an end; a user whose name is not UTF-8. And a profile by which directories
# cannot be made.
make_rootfs() {
    cp -ax "$ROOTFS" "$FOLDER/rootfs"
    install --directory --mode 700 "$FOLDER/rootfs/of-root"
    install --directory --mode 700 --owner 1000 --group 1000 "$FOLDER/rootfs/of-inmate"
    ln -s ../run/nowhere/file "$FOLDER/rootfs/etc/dangling"
    sed -i '1i m\xfcller:x:1001:1001:M\xfcller:/home/muller:/bin/sh' "$FOLDER/rootfs/etc/passwd"
    sed -i '1i m\xfcller:x:1001:' "$FOLDER/rootfs/etc/group"
    cat >"$FOLDER/rootfs/bin/limits" <<'END'
#!/bin/sh
cd /sys/fs/cgroup
first() { cat "$@" 2>/dev/null | head -n 1; }
echo "memory $(first memory/memory.limit_in_bytes memory.max) pids $(first pids/pids.max pids.max)"
END
    chmod 755 "$FOLDER/rootfs/bin/limits"
    cat >"$FOLDER/no-mkdir.json" <<'END'
{
  "defaultAction": "SCMP_ACT_ALLOW",
  "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }]
}
END
    mkdir --parents "$FOLDER/volume/place"
    echo "from the host" >"$FOLDER/volume/letter"
}
