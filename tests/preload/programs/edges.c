/* Edge-triggered: connections that an earlier wait reported remain until they are accepted, from
 * any slot; and a dozen listeners at once each have their edge. */
#include "call.h"

enum { LISTENERS = 12 };

int main(void)
{
    int fd = listener(SOCK_NONBLOCK), told[2], got = 0;
    struct epoll_event events[LISTENERS];
    MUST(pipe(told));
    pid_t hangs = MUST(fork());
    if (hangs == 0) { /* it has a slot, at which others must look */
        int epfd = MUST(epoll_create1(0));
        MUST(watch(epfd, fd, EPOLLIN, 1));
        epoll_wait(epfd, events, 1, 100);
        MUST(write(told[1], "x", 1));
        pause();
    }
    char byte;
    MUST(read(told[0], &byte, 1));
    int epfd = MUST(epoll_create1(0)), clients[18];
    MUST(watch(epfd, fd, EPOLLIN | EPOLLET, 1));
    epoll_wait(epfd, events, 8, 50);
    for (int i = 0; i < 16; i++)
        clients[i] = client_of(fd);
    if (epoll_wait(epfd, events, 8, 5000) > 0)
        for (int i = 0; i < 2; i++) {
            int connection = accept(fd, NULL, NULL);
            got += connection >= 0;
            close(connection);
        }
    clients[16] = client_of(fd);
    clients[17] = client_of(fd);
    while (got < 18 && epoll_wait(epfd, events, 8, 5000) > 0)
        for (int connection; (connection = accept(fd, NULL, NULL)) >= 0; got++)
            close(connection);
    printf("%d\n", got);
    for (int i = 0; i < 18; i++)
        close(clients[i]);
    kill(hangs, SIGKILL);
    waitpid(hangs, NULL, 0);

    int fds[LISTENERS], askers[LISTENERS];
    for (int i = 0; i < LISTENERS; i++) {
        fds[i] = listener(SOCK_NONBLOCK);
        MUST(watch(epfd, fds[i], EPOLLIN | EPOLLET, (uint64_t)i));
    }
    show_wait(epfd, 10);
    for (int i = 0; i < LISTENERS; i++)
        askers[i] = client_of(fds[i]);
    for (int served = 0, count; served < LISTENERS;) {
        count = epoll_wait(epfd, events, LISTENERS, 2000);
        for (int e = 0; e < count; e++)
            served += serve_all(fds[events[e].data.u64], "edge");
        if (count == 0)
            break;
    }
    for (int i = 0; i < LISTENERS; i++) {
        struct pollfd look = {.fd = askers[i], .events = POLLIN};
        printf("%s\n", poll(&look, 1, 0) == 1 ? answer(askers[i]) : "not served");
    }
}
