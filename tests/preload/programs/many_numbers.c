/* A child of a worker opens more than a thousand descriptors, and can close each. */
#include "call.h"

int main(void)
{
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    int fd = listener(SOCK_NONBLOCK), epfd = MUST(epoll_create1(0)), told[2];
    struct epoll_event event;
    MUST(pipe(told));
    pid_t other = MUST(fork());
    if (other == 0) {
        int own = MUST(epoll_create1(0));
        MUST(watch(own, fd, EPOLLIN, 1));
        epoll_wait(own, &event, 1, 100);
        MUST(write(told[1], "x", 1));
        pause();
    }
    char byte;
    MUST(read(told[0], &byte, 1));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    epoll_wait(epfd, &event, 1, 50);
    epoll_wait(epfd, &event, 1, 50);
    fflush(stdout);
    pid_t child = MUST(fork());
    if (child == 0) {
        int failed = 0;
        static int fds[1500];
        MUST(close(fd));
        for (int i = 0; i < 1500; i++)
            fds[i] = MUST(socket(AF_INET, SOCK_STREAM, 0));
        for (int i = 0; i < 1500; i++)
            failed += close(fds[i]) < 0;
        printf("%d failed\n", failed);
        fflush(stdout);
        _exit(0);
    }
    reap(child);
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
}
