/* The yardstick for the runtime's run: what it asks of the kernel for scripts/bench's bundle, on cgroup v1, in the fewest
   lines of C: the sealed copy, the container's directory, namespaces, groups, limits, mounts, masks, capabilities, the
   filter. It understands no configuration, looks for no mistakes, and takes nothing back when something fails.
   Usage: minimal_run FILTER DIRECTORY GROUP ROOTFS COMMAND [ARGUMENT...]; FILTER is the compiled program, byte by byte. */
#include "minimal.h"
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <grp.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

static const char *trees[] = {"cpu", "cpuacct", "memory", "pids", "blkio", "devices", "cpuset", "freezer"};
#define TREES (sizeof trees / sizeof *trees)

extern char **environ;

static void go_on_sealed(char **words) {
    const int all = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    struct stat found;
    int own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    MUST(own);
    if (fcntl(own, F_GET_SEALS) == all) {
        close(own);
        return;
    }
    int copy = memfd_create("minimal_run", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    MUST(copy);
    MUST(fstat(own, &found));
    for (off_t done = 0; done < found.st_size;) MUST(sendfile(copy, own, &done, found.st_size - done));
    MUST(fcntl(copy, F_ADD_SEALS, all));
    MUST(syscall(SYS_execveat, copy, "", words, environ, AT_EMPTY_PATH));
}

static void remember(int directory, const char *name, size_t length) { /* as a whole: written, then renamed */
    static const char text[1 << 15];
    int file = openat(directory, "new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    MUST(file);
    MUST(write(file, text, length));
    close(file);
    MUST(renameat(directory, "new", directory, name));
}

static const char *in(const char *tree, const char *group, const char *file) {
    static char path[4096];
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s%s/%s", tree, group, file);
    return path;
}

static void put(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    MUST(file);
    MUST(write(file, text, strlen(text)));
    close(file);
}

static void inherit(const char *group, const char *setting) { /* a set without processors or memory takes nobody in */
    char text[256], above[256];
    snprintf(above, sizeof above, "%.*s", (int)(strrchr(group, '/') - group), group);
    int file = open(in("cpuset", above, setting), O_RDONLY | O_CLOEXEC);
    MUST(file);
    ssize_t length = read(file, text, sizeof text - 1);
    MUST(length);
    close(file);
    text[length] = 0;
    put(in("cpuset", group, setting), text);
}

static void make_groups(const char *group) {
    for (size_t i = 0; i < TREES; i++) MUST(mkdir(in(trees[i], group, ""), 0755));
    inherit(group, "cpuset.cpus"), inherit(group, "cpuset.mems");
    put(in("memory", group, "memory.limit_in_bytes"), "67108864");
    put(in("cpu", group, "cpu.shares"), "512");
    put(in("cpu", group, "cpu.cfs_period_us"), "100000");
    put(in("cpu", group, "cpu.cfs_quota_us"), "100000");
    put(in("pids", group, "pids.max"), "64");
    put(in("devices", group, "devices.deny"), "a");
    const char *allowed[] = {"c *:* m", "b *:* m", "c 1:3 mrw", "c 1:5 mrw", "c 1:7 mrw", "c 1:8 mrw", "c 1:9 mrw",
        "c 5:0 mrw", "c 5:1 mrw", "c 5:2 mrw", "c 136:* mrw"};
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) put(in("devices", group, "devices.allow"), allowed[i]);
}

static void hold_groups(const char *group, int *held) { /* from the old root they can be reached, from the new one not */
    struct mount_attr forbid = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
    for (size_t i = 0; i < TREES; i++) {
        MUST(held[i] = syscall(SYS_open_tree, AT_FDCWD, in(trees[i], group, ""), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
        MUST(syscall(SYS_mount_setattr, held[i], "", AT_EMPTY_PATH, &forbid, sizeof forbid));
    }
}

static void show_groups(const int *held) {
    char there[64];
    MUST(mount("cgroup", "/sys/fs/cgroup", "tmpfs", QUIET, "mode=755,size=64k"));
    for (size_t i = 0; i < TREES; i++) {
        snprintf(there, sizeof there, "/sys/fs/cgroup/%s", trees[i]);
        MUST(mkdir(there, 0755));
        MUST(syscall(SYS_move_mount, held[i], "", AT_FDCWD, there, MOVE_MOUNT_F_EMPTY_PATH));
    }
    MUST(mount("cgroup", "/sys/fs/cgroup", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | QUIET, NULL));
}

static void loopback_up(void) {
    struct { struct nlmsghdr head; struct ifinfomsg info; } ask = {
        {sizeof ask, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 0, 0}, {.ifi_index = 1, .ifi_flags = 1, .ifi_change = 1}};
    char answer[256];
    int link = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    MUST(link);
    MUST(send(link, &ask, sizeof ask, 0));
    MUST(recv(link, answer, sizeof answer, 0));
    close(link);
}

static void give_up_privileges(struct sock_fprog *filter) {
    const unsigned kept = 1 << CAP_KILL | 1 << CAP_NET_BIND_SERVICE | 1 << CAP_AUDIT_WRITE;
    struct rlimit files = {1024, 1024};
    MUST(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL));
    MUST(setrlimit(RLIMIT_NOFILE, &files));
    for (int i = 0; i <= CAP_LAST_CAP; i++) if (i > 31 || !(kept >> i & 1)) MUST(prctl(PR_CAPBSET_DROP, i));
    MUST(setgroups(0, NULL));
    MUST(setresgid(0, 0, 0));
    MUST(setresuid(0, 0, 0));
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2] = {{kept, kept, 0}, {0, 0, 0}};
    MUST(syscall(SYS_capset, &head, caps));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, filter));
}

int main(int count, char **words) {
    static struct sock_filter program[BPF_MAXINSNS];
    if (count < 6) return 125;
    go_on_sealed(words);
    const char *place = words[2], *group = words[3], *rootfs = words[4];
    int file = open(words[1], O_RDONLY | O_CLOEXEC);
    MUST(file);
    ssize_t length = read(file, program, sizeof program);
    MUST(length);
    close(file);
    struct sock_fprog filter = {length / sizeof *program, program};
    MUST(mkdir(place, 0711));
    int directory = open(place, O_RDONLY | O_CLOEXEC);
    MUST(directory);
    MUST(flock(directory, LOCK_EX));
    remember(directory, "config.json", 17067);
    remember(directory, "state.json", 255);
    make_groups(group);
    remember(directory, "state.json", 640);
    struct clone_args arguments = {.exit_signal = SIGCHLD,
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET};
    int gate[2];
    MUST(pipe2(gate, O_CLOEXEC));
    long child = syscall(SYS_clone3, &arguments, sizeof arguments);
    MUST(child);
    if (child > 0) {
        remember(directory, "state.json", 647);
        MUST(write(gate[1], "go", 2));
        int code = end_of(child);
        for (size_t i = 0; i < TREES; i++) MUST(rmdir(in(trees[i], group, "")));
        MUST(unlinkat(directory, "config.json", 0));
        MUST(unlinkat(directory, "state.json", 0));
        MUST(rmdir(place));
        return code;
    }
    char go[2];
    MUST(read(gate[0], go, 2));
    MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
    for (size_t i = 0; i < TREES; i++) put(in(trees[i], group, "tasks"), "0");
    MUST(setsid());
    MUST(sethostname("cellblock", 9));
    loopback_up();
    int held[TREES];
    hold_groups(group, held);
    move_in(rootfs);
    furnish();
    show_groups(held);
    give_up_privileges(&filter);
    return become(words + 5);
}
