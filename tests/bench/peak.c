/* Runs a command and prints the most memory that it, or anybody it waited for, had at once: KiB (man 2 getrusage,
   ru_maxrss). In C, for a process begins with the peak of whoever forked it. Usage: peak COMMAND [ARGUMENT...] */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words) {
    struct rusage used;
    int status;
    if (count < 2) return 125;
    pid_t child = fork();
    if (child == 0) {
        execvp(words[1], words + 1);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &used) < 0 || status) return 125;
    printf("%ld\n", used.ru_maxrss);
}
