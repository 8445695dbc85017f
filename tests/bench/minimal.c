/* The yardstick: what step 3 asks of the kernel, in the fewest lines of C, with none of its care for the reader:
   no options, no checks of the root filesystem, no failures that teach. Usage: minimal ROOTFS COMMAND [ARGUMENT...] */
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

int main(int count, char **words) {
    if (count < 3) return 125;
    struct clone_args arguments = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC, .exit_signal = SIGCHLD};
    int gate[2];
    MUST(pipe2(gate, O_CLOEXEC));
    long child = syscall(SYS_clone3, &arguments, sizeof arguments);
    MUST(child);
    if (child > 0) {
        int status;
        MUST(write(gate[1], "go", 2));
        MUST(waitpid(child, &status, 0));
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    char go[2];
    MUST(read(gate[0], go, 2));
    MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    MUST(mount(words[1], words[1], NULL, MS_BIND | MS_REC, NULL));
    MUST(chdir(words[1]));
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(umount2(".", MNT_DETACH));
    MUST(chdir("/"));
    furnish();
    char *environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", NULL};
    execve(words[2], words + 2, environment);
    perror(words[2]);
    return 127;
}
