/* SPDX-License-Identifier: MIT
 *
 * Long connections: a message goes there and comes back, one on its way per connection.
 */
#include "client.h"
#include "samples.h"
#include "tcp.h"

#include <string.h>
#include <sys/epoll.h>

struct connection {
    int fd, sent, received;
    int64_t since;
};

struct pingpong {
    int ep, size, back; /* bytes of a message, and of its answer */
    char *message, *buffer;
    struct samples samples;
};

static int connected(int port)
{
    struct sockaddr_in address = loopback(port);
    int yes = 1, fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes), "TCP_NODELAY");
    must(connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
    return fd;
}

/* Send the rest of the message. If the socket is full, EPOLLOUT continues. */
static void send_rest(struct pingpong *p, struct connection *c)
{
    while (c->sent < p->size) {
        ssize_t n = send(c->fd, p->message + c->sent, (size_t)(p->size - c->sent),
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        c->sent += must((int)n, "send");
    }
}

static void begin(struct pingpong *p, struct connection *c)
{
    c->sent = c->received = 0;
    c->since = now_ns();
    send_rest(p, c);
}

/* Receive the bytes that have arrived; true if the whole message is back. */
static int received_all(struct pingpong *p, struct connection *c)
{
    while (c->received < p->back) {
        ssize_t n = recv(c->fd, p->buffer, (size_t)(p->back - c->received), MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n == 0) {
            fprintf(stderr, "the server closed a connection\n");
            exit(1);
        }
        c->received += must((int)n, "recv");
    }
    return 1;
}

static void play(struct pingpong *p, struct connection *connections, int count, double seconds)
{
    int64_t start = now_ns(), now = start, end = start + (int64_t)(seconds * 1e9);
    struct epoll_event events[256];
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET,
                                    .data.ptr = &connections[i]};
        must(epoll_ctl(p->ep, EPOLL_CTL_ADD, connections[i].fd, &event), "epoll_ctl");
        begin(p, &connections[i]);
    }
    while (now < end) {
        int n = must(epoll_wait(p->ep, events, 256, 1000), "epoll_wait");
        now = now_ns();
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            send_rest(p, c);
            if (!received_all(p, c))
                continue;
            samples_add(&p->samples, now_ns() - c->since);
            begin(p, c);
        }
    }
    samples_print(&p->samples, p->samples.count, 0, now - start);
}

static struct pingpong pingpong(int size)
{
    struct pingpong p = {.ep = must(epoll_create1(0), "epoll_create1"), .size = size, .back = size};
    p.message = malloc((size_t)size);
    p.buffer = malloc((size_t)size);
    if (!p.message || !p.buffer)
        abort();
    memset(p.message, 'x', (size_t)size);
    return p;
}

static struct connection *open_all(int port, int count)
{
    struct connection *connections = calloc((size_t)count, sizeof *connections);
    if (!connections)
        abort();
    for (int i = 0; i < count; i++)
        connections[i].fd = connected(port);
    return connections;
}

int pingpong_echo(int port, int connections, int size, double seconds)
{
    struct pingpong p = pingpong(size);
    play(&p, open_all(port, connections), connections, seconds);
    return 0;
}

/* Ask for a WebSocket, and wait until it is open. Its first message comes after that. */
static void upgrade(int fd)
{
    static const char request[] =
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    char answer[4096];
    size_t got = 0;
    must((int)send(fd, request, sizeof request - 1, MSG_NOSIGNAL), "send");
    do {
        got += (size_t)must((int)recv(fd, answer + got, sizeof answer - 1 - got, 0), "recv");
        answer[got] = 0;
    } while (!strstr(answer, "\r\n\r\n") && got < sizeof answer - 1);
    if (strncmp(answer, "HTTP/1.1 101", 12) != 0) {
        fprintf(stderr, "no WebSocket: %.60s\n", answer);
        exit(1);
    }
}

/* RFC 6455, 5.2: a client's frame, whose mask changes nothing, and the server's frame in answer. */
int pingpong_websocket(int port, int connections, int size, double seconds)
{
    int head = size < 126 ? 2 : size < 65536 ? 4 : 10;
    struct pingpong p = pingpong(head + 4 + size);
    p.back = head + size;
    memset(p.message, 0, (size_t)head + 4);
    p.message[0] = (char)0x82;
    p.message[1] = (char)(0x80 | (head == 2 ? size : head == 4 ? 126 : 127));
    for (int i = 0; i < head - 2; i++)
        p.message[2 + i] = (char)((uint64_t)size >> 8 * (head - 3 - i));
    struct connection *all = open_all(port, connections);
    for (int i = 0; i < connections; i++)
        upgrade(all[i].fd);
    play(&p, all, connections, seconds);
    return 0;
}

/* A message there and back: then the server has accepted this connection, and all before it. */
static void ping(struct pingpong *p, struct connection *c)
{
    must((int)send(c->fd, p->message, (size_t)p->size, MSG_NOSIGNAL), "send");
    must((int)recv(c->fd, p->buffer, (size_t)p->size, MSG_WAITALL), "recv");
}

int pingpong_idle(int port, int connections, double seconds)
{
    struct pingpong p = pingpong(100);
    struct connection *all = open_all(port, connections);
    ping(&p, &all[connections - 1]);
    puts("open");
    fflush(stdout);
    if (getchar() == EOF)
        return 1;
    play(&p, &all[connections / 2], 1, seconds);
    return 0;
}
