/* SPDX-License-Identifier: MIT
 *
 * The least cost of a short connection. Accept is deferred until the request has arrived, so the
 * request is answered at once and never registered. With `fin`, it also takes one segment less.
 *
 *     limit_server PORT BACKLOG [fin]
 */
#include "hello.h"

#include <string.h>
#include <sys/epoll.h>

static void serve_all(int ep, int listener, int with_fin)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (answer(fd, with_fin))
            continue;
        /* The kernel hands over silent clients too, after a second. */
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    }
}

int main(int argc, char **argv)
{
    int with_fin = argc == 4 && !strcmp(argv[3], "fin");
    if (argc != 3 + with_fin)
        return 2;
    int listener = listen_on(atoi(argv[1]), atoi(argv[2]), 1);
    int ep = must(epoll_create1(0), "epoll_create1");
    struct epoll_event events[512], event = {.events = EPOLLIN, .data.fd = listener};
    must(epoll_ctl(ep, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
    for (;;) {
        int n = epoll_wait(ep, events, 512, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                serve_all(ep, listener, with_fin);
            else
                answer(events[i].data.fd, with_fin);
        }
    }
}
