/* SPDX-License-Identifier: MIT
 *
 * Functions that the C programs of the benchmarks share: sockets on 127.0.0.1, and the end of a
 * program that cannot continue.
 */
#ifndef BENCH_TCP_H
#define BENCH_TCP_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Return the value of a call that must not fail here, or end the program. */
static inline int must(int rc, const char *call)
{
    if (rc < 0) {
        perror(call);
        exit(1);
    }
    return rc;
}

static inline struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* A non-blocking listener. `deferred`: a connection is handed over after its first bytes arrive. */
static inline int listen_on(int port, int backlog, int deferred)
{
    struct sockaddr_in address = loopback(port);
    int yes = 1, fd = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes), "SO_REUSEADDR");
    if (deferred)
        must(setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &yes, sizeof yes), "TCP_DEFER_ACCEPT");
    must(bind(fd, (struct sockaddr *)&address, sizeof address), "bind");
    must(listen(fd, backlog), "listen");
    return fd;
}

#endif
