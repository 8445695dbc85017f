# shellcheck shell=bash disable=SC1091,SC2034
# dockerd and its client: a daemon of our own, with the runtime under test as its default.
source "$ENGINES/common.sh"
export DOCKER_HOST=unix:///run/engine/socket DOCKER_CONFIG=$FOLDER/client DOCKER_BUILDKIT=0
RUN="docker run"
STATE=/run/engine/exec/runtime-runc/moby

up() {
    make_rootfs
    hide_the_machine
    echo '{}' >"$FOLDER/daemon.json" # not the machine's own
    # The ulimits are those of any user: higher ones take CAP_SYS_RESOURCE, which not every machine's root has.
    setsid dockerd --config-file "$FOLDER/daemon.json" --host "$DOCKER_HOST" --pidfile "$FOLDER/pid" \
        --data-root "$FOLDER/data" --exec-root /run/engine/exec --cgroup-parent "$PARENT" \
        --exec-opt native.cgroupdriver=cgroupfs --default-ulimit nofile=1024:1024 --default-ulimit nproc=1024:1024 \
        --add-runtime "tried=$RUNTIME" --default-runtime tried </dev/null &>"$FOLDER/log" &
    eventually docker info
    tar --directory "$FOLDER/rootfs" --create . | docker import - box
}

down() {
    local pid containers
    containers=$(docker ps --all --quiet)
    [[ -z $containers ]] || xargs docker rm --force >/dev/null <<<"$containers"
    pid=$(<"$FOLDER/pid")
    kill "$pid"
    eventually gone "$pid"
    show_the_machine
}

gone() { [[ ! -d /proc/$1 ]]; }
