/* Closing: in a child, by close_range and closefrom, a loop over all numbers. */
#include "call.h"

static void refused(int fd, const char *how)
{
    socklen_t length;
    struct sockaddr_storage name = name_of(fd, &length);
    int high = MUST(fcntl(1, F_DUPFD, 500));
    if (strcmp(how, "close_range") == 0)
        MUST(close_range(3, 499, 0));
    else if (strcmp(how, "closefrom") == 0)
        closefrom(3);
    else
        for (int i = 3; i < 2000; i++)
            close(i);
    int client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    printf("%s: %d %d, next descriptor %d\n", how,
           connect(client, (struct sockaddr *)&name, length), errno == ECONNREFUSED, client);
    close(client);
    close(high);
    printf("%d open\n", open_fds());
}

int main(void)
{
    const char *ways[] = {"close_range", "closefrom", "loop"};
    for (int i = 0; i < 3; i++) {
        int fd = listener(SOCK_NONBLOCK), epfd = MUST(epoll_create1(0)), copy = fd;
        MUST(watch(epfd, fd, EPOLLIN, 1));
        show_wait(epfd, 10);
        refused(copy, ways[i]);
    }
    int fd = listener(SOCK_NONBLOCK), epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    show_wait(epfd, 10);
    fflush(stdout);
    pid_t pid = MUST(fork());
    if (pid == 0) {
        close(fd);
        close(epfd);
        printf("child: %d\n", close(fd));
        fflush(stdout);
        _exit(0);
    }
    reap(pid);
    int client = client_of(fd);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "parent"));
    printf("%s\n", answer(client));
    MUST(close(fd));
    printf("closed twice: %d %d\n", close(fd), errno == EBADF);
}
