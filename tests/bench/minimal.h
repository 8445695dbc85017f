/* What both yardsticks have in common: the furniture of a cell, in the fewest lines of C. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(call) do { if ((call) < 0) { perror(#call); _exit(125); } } while (0)
#define QUIET (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static void node(const char *path, int major, int minor) {
    MUST(mknod(path, S_IFCHR | 0666, makedev(major, minor)));
}

static void mask(const char *path) {
    struct stat found;
    if (stat(path, &found) < 0) return;
    if (S_ISDIR(found.st_mode)) MUST(mount("tmpfs", path, "tmpfs", MS_RDONLY | QUIET, "size=4k"));
    else MUST(mount("/dev/null", path, NULL, MS_BIND, NULL));
}

static void read_only(const char *path) {
    if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0 && errno == ENOENT) return;
    MUST(mount(path, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | QUIET, NULL));
}

static void furnish(void) {
    MUST(mount("proc", "/proc", "proc", QUIET, NULL));
    MUST(mount("sysfs", "/sys", "sysfs", QUIET | MS_RDONLY, NULL));
    MUST(mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k"));
    umask(0);
    node("/dev/null", 1, 3), node("/dev/zero", 1, 5), node("/dev/full", 1, 7);
    node("/dev/random", 1, 8), node("/dev/urandom", 1, 9), node("/dev/tty", 5, 0);
    MUST(symlink("/proc/self/fd", "/dev/fd"));
    MUST(symlink("/proc/self/fd/0", "/dev/stdin"));
    MUST(symlink("/proc/self/fd/1", "/dev/stdout"));
    MUST(symlink("/proc/self/fd/2", "/dev/stderr"));
    MUST(symlink("/proc/kcore", "/dev/core"));
    MUST(symlink("pts/ptmx", "/dev/ptmx"));
    MUST(mkdir("/dev/pts", 0755));
    MUST(mkdir("/dev/shm", 0755));
    MUST(mkdir("/dev/mqueue", 0755));
    MUST(mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,mode=620,ptmxmode=666"));
    MUST(mount("tmpfs", "/dev/shm", "tmpfs", QUIET, "mode=1777,size=64m"));
    MUST(mount("mqueue", "/dev/mqueue", "mqueue", QUIET, NULL));
    const char *masked[] = {"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
        "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
        "/sys/devices/virtual/powercap", "/sys/firmware"};
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) mask(masked[i]);
    const char *kept[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) read_only(kept[i]);
}

/* Another root directory, and no way back to the old one. */
static void move_in(const char *rootfs) {
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    MUST(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL));
    MUST(chdir(rootfs));
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(umount2(".", MNT_DETACH));
    MUST(chdir("/"));
}

static int become(char **words) {
    char *environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", NULL};
    execve(words[0], words, environment);
    perror(words[0]);
    return 127;
}

static int end_of(long child) {
    int status;
    MUST(waitpid(child, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
