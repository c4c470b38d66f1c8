/* The first descriptor of a listener is closed and its number used again; a duplicate goes on. */
#include "call.h"

int main(void)
{
    int first = listener(SOCK_NONBLOCK), fd = MUST(fcntl(first, F_DUPFD, 50)), ends[2];
    MUST(close(first));
    MUST(pipe(ends));
    printf("%d\n", ends[0] == first);
    for (int round = 0; round < 2; round++) {
        int client = client_of(fd);
        struct pollfd look = {.fd = fd, .events = POLLIN};
        printf("%d\n", poll(&look, 1, 5000));
        printf("served %d\n", serve_all(fd, "duplicate"));
        printf("%s\n", answer(client));
        printf("listen: %d\n", listen(fd, 16));
    }
    int epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    show_wait(epfd, 10);
    int client = client_of(fd);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "in epoll"));
    printf("%s\n", answer(client));
    MUST(shutdown(fd, SHUT_RD));
    printf("pipe: %d\n", (int)write(ends[1], "x", 1));
}
