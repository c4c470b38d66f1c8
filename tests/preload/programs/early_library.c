/* Linked by early.c. Its constructor opens, polls and closes sockets, and leaves a listener. */
#include "call.h"

int early_listener;

__attribute__((constructor)) static void start(void)
{
    int fd = listener(SOCK_NONBLOCK), epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    int client = client_of(fd);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "constructor"));
    printf("%s\n", answer(client));
    close(fd);
    close(epfd);
    early_listener = listener(SOCK_NONBLOCK);
}
