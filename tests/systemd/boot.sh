# shellcheck shell=bash
# A machine with systemd, without a machine: this machine's own systemd as PID 1 of a few namespaces. It begins in its own
# group of cgroup v2, which is the topmost for it, and knows no units but those that are written here.
#
#   GROUP    its group, made already        USER_ID  whose own systemd runs beside it
set -e
# Whoever waits outside for its end stays outside: a group with processes of its own passes no controllers on.
unshare=(unshare --mount --propagation private --pid --fork --kill-child --uts --ipc --net)
# shellcheck disable=SC2016 # expanded in there
exec "${unshare[@]}" bash -ec 'echo 0 >"$GROUP/cgroup.procs"; exec unshare --cgroup bash -e "$0"' /dev/stdin <<'INSIDE'
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# What systemd writes goes to /run, which is in memory; and so is the machine's number.
mkdir -p /run/units /run/user-units /run/dbus /run/user/"$USER_ID"
chown "$USER_ID:$USER_ID" /run/user/"$USER_ID"
echo 0123456789abcdef0123456789abcdef >/run/machine-id
[[ ! -e /etc/machine-id ]] || mount --bind /run/machine-id /etc/machine-id
cat >/run/units/lab.target <<'END'
[Unit]
DefaultDependencies=no
END
cat >/run/units/dbus.socket <<'END'
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
END
cat >/run/units/dbus.service <<'END'
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
END
cat >/run/units/user.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=notify
Slice=user-$USER_ID.slice
Delegate=pids memory cpu
User=$USER_ID
Environment=XDG_RUNTIME_DIR=/run/user/$USER_ID SYSTEMD_UNIT_PATH=/run/user/$USER_ID/systemd/transient:/run/user-units
ExecStart=/lib/systemd/systemd --user --unit=lab.target
END
cp /run/units/lab.target /run/user-units/
export container=lab SYSTEMD_UNIT_PATH=/run/systemd/system.control:/run/systemd/transient:/run/units
exec /lib/systemd/systemd --unit=lab.target --log-target=null --show-status=no
INSIDE
