//! What both podman and Docker must be able to do, typed alike. `$RUN` is `podman run` or `docker run`, with what its lab
//! needs besides.

use super::{Step, step};

pub const OF_RUN: &[Step] = &[
    step("run", "$RUN --rm box echo hello", 0, "hello"),
    step("exit code 7", "$RUN --rm box sh -c 'exit 7'", 7, ""),
    step("exit code 125", "$RUN --rm --nosuch-option box true", 125, ""),
    step("exit code 126, a directory", "$RUN --rm box /etc", 126, ""),
    step("standard input", "echo letter | $RUN --rm --interactive box cat", 0, "letter"),
    step("--env", "$RUN --rm --env A=b box env", 0, "A=b"),
    step("--user", "$RUN --rm --user 1000:1000 --group-add 7 box id", 0, "uid=1000(inmate) gid=1000(inmate) groups=7"),
    step("--read-only", "$RUN --rm --read-only box touch /new", 1, "Read-only file system"),
    step("--memory", "$RUN --rm --memory 64m box limits", 0, "memory 67108864"),
    step("--pids-limit", "$RUN --rm --pids-limit 32 box limits", 0, "pids 32"),
    step("killed for memory", "$RUN --rm --memory 16m box tail /dev/zero", 137, ""),
    step(
        "--cpus",
        "$RUN --rm --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 box grep Cpus_allowed_list /proc/self/status",
        0,
        "0\n",
    ),
    step("--volume", "$RUN --rm --volume $FOLDER/volume:/in:ro box cat /in/letter", 0, "from the host"),
    step(
        "--volume, read-only",
        "$RUN --rm --volume $FOLDER/volume:/in:ro box touch /in/new",
        1,
        "Read-only file system",
    ),
    step("--tmpfs", "$RUN --rm --tmpfs /scratch:size=1m,mode=700 box stat -c %a /scratch", 0, "700"),
    step("--device", "$RUN --rm --device /dev/null:/dev/mine box stat -c %t:%T /dev/mine", 0, "1:3"),
    step(
        "--cap-add",
        "$RUN --rm --cap-drop all --cap-add NET_ADMIN box grep CapEff /proc/self/status",
        0,
        "0000000000001000",
    ),
    step(
        "--security-opt seccomp",
        "$RUN --rm --security-opt seccomp=$FOLDER/no-mkdir.json box mkdir /new",
        1,
        "not permitted",
    ),
    step(
        "no-new-privileges",
        "$RUN --rm --security-opt no-new-privileges box grep NoNewPrivs /proc/self/status",
        0,
        "1",
    ),
    step(
        "--sysctl",
        "$RUN --rm --sysctl net.ipv4.ip_default_ttl=77 box cat /proc/sys/net/ipv4/ip_default_ttl",
        0,
        "77",
    ),
    step("--cgroupns private", "$RUN --rm --cgroupns private box cat /proc/self/cgroup", 0, ":/\n"),
    step(
        "a user's standard output",
        "$RUN --rm --user 1000:1000 box sh -c 'echo out >/dev/stdout; echo err >/dev/stderr' 2>&1 | sort | tr '\\n' ' '",
        0,
        "err out ",
    ),
    step(
        "a user's terminal",
        "on_a_terminal \"$RUN --rm -it --user 1000:1000 box sh -c 'echo out >/dev/stdout; : <\\$(tty) && echo mine'\"",
        0,
        "out\r\nmine",
    ),
    step(
        "--volume, on a dangling link",
        "$RUN --rm --volume $FOLDER/volume/letter:/etc/dangling:ro box cat /etc/dangling",
        0,
        "from the host",
    ),
    step(
        "--volume, rshared",
        "$RUN --rm --cap-add SYS_ADMIN --volume $FOLDER/volume:/in:rshared box sh -c 'mount -t tmpfs new /in/place && touch /in/place/new' && umount_when_new $FOLDER/volume/place",
        0,
        "new\n",
    ),
    step(
        "--volume, not shared",
        "$RUN --rm --cap-add SYS_ADMIN --volume $FOLDER/volume:/in box sh -c 'mount -t tmpfs new /in/place && touch /in/place/new' && ls $FOLDER/volume/place | grep -c .",
        1,
        "0\n",
    ),
    step(
        "--workdir, of root's alone",
        "$RUN --rm --cap-drop all --user 1000:1000 --workdir /of-root box pwd",
        0,
        "/of-root\n",
    ),
    step(
        "--workdir, of a user's alone",
        "$RUN --rm --cap-drop all --user 1000:1000 --workdir /of-inmate box pwd",
        0,
        "/of-inmate\n",
    ),
    step("passwd in Latin-1", "$RUN --rm --user 1000 box sh -c 'cd; pwd; id -gn'", 0, "/home/inmate\ninmate\n"),
    step(
        "a large paste",
        "paste_on_a_terminal \"$RUN --rm -it box sh -c 'sleep 1; head -n 20000 | wc -l | sed s/^/came:/'\"",
        0,
        "came:20000",
    ),
];
