/* deny ERRNO NUMBER[:ARGUMENT] ... -- program: run it with these system calls refused by that
 * error, as a sandbox does; with an argument, only those whose third argument has that value. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sock_filter filter[256];
    unsigned short n = 0;
    int at = 2;
    unsigned error = argc > 1 ? (unsigned)atoi(argv[1]) : EPERM;
    for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
        char *colon = strchr(argv[at], ':');
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                   offsetof(struct seccomp_data, nr));
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                   (unsigned)atoi(argv[at]), 0, colon ? 3 : 1);
        if (colon) {
            filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                       offsetof(struct seccomp_data, args[2]));
            filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                       (unsigned)atoi(colon + 1), 0, 1);
        }
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = n, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
        perror("seccomp");
        return 1;
    }
    execvp(argv[at + 1], argv + at + 1);
    perror(argv[at + 1]);
    return 1;
}
