/* Programs are started by vfork and exec, posix_spawn and system(3), in the middle of serving. */
#include "call.h"

#include <spawn.h>

extern char **environ;

int main(void)
{
    int fd = listener(SOCK_NONBLOCK | SOCK_CLOEXEC), epfd = MUST(epoll_create1(EPOLL_CLOEXEC));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    char *count[] = {"sh", "-c", "ls /proc/self/fd | grep -c '^[0-9]\\{1,3\\}$'; exit 3", NULL};
    for (int round = 0; round < 3; round++) {
        int client = client_of(fd);
        show_wait(epfd, 5000);
        fflush(stdout);
        pid_t pid;
        if (round == 0) {
            pid = vfork();
            if (pid == 0) {
                close(fd); /* in the child's table, not in ours */
                close(epfd);
                execv("/bin/sh", count);
                _exit(127);
            }
        } else if (round == 1) {
            MUST(-posix_spawnp(&pid, "sh", NULL, NULL, count, environ));
        } else {
            printf("%d\n", WEXITSTATUS(system("exit 4")));
            pid = 0;
        }
        if (pid)
            reap(pid);
        printf("served %d\n", serve_all(fd, "still here"));
        printf("%s\n", answer(client));
    }
    printf("%d %d\n", execl("/nonexistent", "x", (char *)NULL), errno == ENOENT);
    int client = client_of(fd);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "after a failed exec"));
    printf("%s\n", answer(client));
}
