/* SPDX-License-Identifier: MIT
 *
 * The answer of the two C servers: the same bytes as apps/answer.py sends.
 */
#ifndef BENCH_HELLO_H
#define BENCH_HELLO_H

#include "tcp.h"

/* Answer a request if it has arrived, and close. Returns 0 if nothing has arrived.
 *
 * with_fin: the answer waits for the FIN and leaves in the same segment; otherwise they are two. */
static inline int answer(int fd, int with_fin)
{
    static const char hello[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
                                "Connection: close\r\n\r\nhello";
    char request[4096];
    ssize_t n = recv(fd, request, sizeof request, 0);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n > 0)
        send(fd, hello, sizeof hello - 1, MSG_NOSIGNAL | (with_fin ? MSG_MORE : 0));
    if (with_fin)
        shutdown(fd, SHUT_WR);
    close(fd);
    return 1;
}

#endif
