/* poll, ppoll and select on a listener, next to a pipe; their time-outs. */
#include "call.h"

int main(void)
{
    int fd = listener(SOCK_NONBLOCK), ends[2];
    MUST(pipe(ends));
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = ends[0], .events = POLLIN}};
    printf("%d\n", poll(fds, 2, 20));
    int client = client_of(fd);
    printf("%d %x %x\n", poll(fds, 2, 5000), fds[0].revents, fds[1].revents);
    printf("served %d\n", serve_all(fd, "poll"));
    printf("%s\n", answer(client));
    MUST(write(ends[1], "x", 1));
    struct timespec second = {1, 0};
    printf("%d %x %x\n", ppoll(fds, 2, &second, NULL), fds[0].revents, fds[1].revents);
    client = client_of(fd);
    fd_set read;
    FD_ZERO(&read);
    FD_SET(fd, &read);
    FD_SET(ends[0], &read);
    struct timeval time = {5, 0};
    int highest = fd > ends[0] ? fd : ends[0];
    printf("%d", select(highest + 1, &read, NULL, NULL, &time));
    printf(" %d %d %d\n", FD_ISSET(fd, &read) != 0, FD_ISSET(ends[0], &read) != 0, time.tv_sec > 0);
    printf("served %d\n", serve_all(fd, "select"));
    printf("%s\n", answer(client));
}
