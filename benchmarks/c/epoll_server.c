/* SPDX-License-Identifier: MIT
 *
 * A plain epoll server, to measure its cost: accept, register, wait, receive, answer, close.
 *
 *     epoll_server PORT BACKLOG
 */
#include "hello.h"

#include <sys/epoll.h>

static void accept_all(int ep, int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int listener = listen_on(atoi(argv[1]), atoi(argv[2]), 0);
    int ep = must(epoll_create1(0), "epoll_create1");
    struct epoll_event events[512], event = {.events = EPOLLIN, .data.fd = listener};
    must(epoll_ctl(ep, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
    for (;;) {
        int n = epoll_wait(ep, events, 512, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                accept_all(ep, listener);
            else
                answer(events[i].data.fd, 0);
        }
    }
}
