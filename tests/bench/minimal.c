/* The yardstick: what step 3 asks of the kernel, in the fewest lines of C, with none of its care for the reader:
   no options, no checks of the root filesystem, no failures that teach. Usage: minimal ROOTFS COMMAND [ARGUMENT...] */
#include "minimal.h"

int main(int count, char **words) {
    if (count < 3) return 125;
    struct clone_args arguments = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC, .exit_signal = SIGCHLD};
    int gate[2];
    MUST(pipe2(gate, O_CLOEXEC));
    long child = syscall(SYS_clone3, &arguments, sizeof arguments);
    MUST(child);
    if (child > 0) {
        MUST(write(gate[1], "go", 2));
        return end_of(child);
    }
    char go[2];
    MUST(read(gate[0], go, 2));
    MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
    move_in(words[1]);
    furnish();
    return become(words + 2);
}
