/* Duplicates of a listener are the listener, until the last is closed. */
#include "call.h"

int main(void)
{
    int fd = listener(SOCK_NONBLOCK), copies[5], epfd = MUST(epoll_create1(0));
    copies[0] = MUST(dup(fd));
    copies[1] = MUST(dup2(fd, 100));
    copies[2] = MUST(dup3(fd, 101, O_CLOEXEC));
    copies[3] = MUST(fcntl(fd, F_DUPFD, 200));
    copies[4] = MUST(fcntl(fd, F_DUPFD_CLOEXEC, 300));
    printf("%d %d %d %d\n", copies[1], copies[2], copies[3], copies[4]);
    MUST(watch(epfd, copies[3], EPOLLIN, 7));
    show_wait(epfd, 10);
    close(fd);
    for (int i = 0; i < 5; i++) {
        int client = client_of(copies[i]);
        show_wait(epfd, 5000);
        printf("served %d\n", serve_all(copies[i], "copy"));
        printf("%s\n", answer(client));
    }
    socklen_t length;
    struct sockaddr_storage name = name_of(copies[0], &length);
    printf("dup2 over one: %d\n", dup2(0, copies[0]) == copies[0]);
    for (int i = 1; i < 5; i++)
        MUST(close(copies[i]));
    int client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    printf("connect: %d %d\n", connect(client, (struct sockaddr *)&name, length),
           errno == ECONNREFUSED);
    close(client);
    int again = MUST(socket(AF_INET, SOCK_STREAM, 0));
    printf("bind again: %d\n", bind(again, (struct sockaddr *)&name, length));
    close(again);
    close(copies[0]);
    close(epfd);
    printf("%d open\n", open_fds());
}
