/* SPDX-License-Identifier: MIT
 *
 * Short connections: connect, one request, the answer until the server closes. Connections begin
 * at their times, whether earlier ones were answered or not. So a slow server cannot slow down its
 * own load. With a fixed number of clients it would, and its latency would look better.
 */
#include "client.h"
#include "samples.h"
#include "tcp.h"

#include <math.h>
#include <string.h>
#include <sys/epoll.h>

#define GIVE_UP_NS 10000000000 /* longest time in which no connection ends */

struct exchange {
    int fd, asked, blocks;
    size_t received;
    int64_t since;
};

static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
static const char blocking[] =
    "GET /block HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/* xorshift64: one seed, one sequence, so that every server meets the same load. */
static uint64_t state;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void sow(int seed)
{
    state = 0x9e3779b97f4a7c15u * (uint64_t)(seed + 1);
    for (int i = 0; i < 20; i++)
        next_random();
}

/* The time until the next connection begins: a Poisson process. */
static int64_t pause_ns(double rate)
{
    double uniform = ((double)(next_random() >> 11) + 1) / 9007199254740993.0;
    return rate > 0 ? (int64_t)(-log(uniform) / rate * 1e9) : 0;
}

static void begin(int ep, struct exchange *e, int port)
{
    struct sockaddr_in address = loopback(port);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = e};
    e->since = now_ns();
    e->fd = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
    if (connect(e->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        must(-1, "connect");
    must(epoll_ctl(ep, EPOLL_CTL_ADD, e->fd, &event), "epoll_ctl");
}

static void ask(struct exchange *e)
{
    const char *text = e->blocks ? blocking : request;
    e->asked = 1;
    send(e->fd, text, strlen(text), MSG_NOSIGNAL); /* if it fails, recv does too */
}

/* 1: answered, -1: failed, 0: not yet. */
static int progress(struct exchange *e, uint32_t events)
{
    char buffer[4096];
    if (!e->asked && events & EPOLLOUT)
        ask(e);
    for (;;) {
        ssize_t n = recv(e->fd, buffer, sizeof buffer, 0);
        if (n > 0)
            e->received += (size_t)n;
        else if (n == 0)
            return e->received > 0 ? 1 : -1;
        else
            return errno == EAGAIN ? 0 : -1;
    }
}

static struct timespec wait_until(int64_t when)
{
    int64_t ns = when - now_ns();
    ns = ns > 0 ? ns : 0;
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

int short_run(int port, int count, double rate, int block, int seed)
{
    sow(seed);
    int ep = must(epoll_create1(0), "epoll_create1"), begun = 0, answered = 0, failed = 0;
    struct exchange *all = calloc((size_t)count, sizeof *all);
    struct samples samples = {0};
    struct epoll_event events[512];
    int64_t start = now_ns(), last = start, next = start + pause_ns(rate);
    if (!all)
        abort();
    while (answered + failed < count && now_ns() - last < GIVE_UP_NS) {
        while (begun < count && now_ns() >= next) {
            all[begun].blocks = block && next_random() % (uint64_t)block == 0;
            begin(ep, &all[begun++], port);
            next += pause_ns(rate);
        }
        struct timespec timeout = wait_until(begun < count ? next : last + GIVE_UP_NS);
        int n = must(epoll_pwait2(ep, events, 512, &timeout, NULL), "epoll_pwait2");
        for (int i = 0; i < n; i++) {
            struct exchange *e = events[i].data.ptr;
            int done = progress(e, events[i].events);
            if (!done)
                continue;
            last = now_ns();
            close(e->fd);
            if (done > 0 && !e->blocks)
                samples_add(&samples, last - e->since);
            answered += done > 0;
            failed += done < 0;
        }
    }
    samples_print(&samples, (size_t)answered, (size_t)(count - answered), last - start);
    return 0;
}
