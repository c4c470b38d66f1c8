/* SPDX-License-Identifier: MIT */
#include "options.h"
#include "socket.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

enum { OPTION_MAX = 64 }; /* bytes of the largest value: a device or congestion control name */

struct option {
    int level, name;
};

static const struct option before_bind[] = {
    {SOL_SOCKET, SO_REUSEADDR},       {SOL_SOCKET, SO_BINDTODEVICE}, {SOL_SOCKET, SO_MARK},
    {IPPROTO_IP, IP_FREEBIND},        {IPPROTO_IP, IP_TRANSPARENT},  {IPPROTO_IPV6, IPV6_V6ONLY},
    {IPPROTO_IPV6, IPV6_TRANSPARENT}, {IPPROTO_IPV6, IPV6_FREEBIND},
};

/* SO_INCOMING_CPU is left out: it would compete with the steering program. */
static const struct option any_time[] = {
    {SOL_SOCKET, SO_KEEPALIVE},
    {SOL_SOCKET, SO_LINGER},

    {SOL_SOCKET, SO_MARK},
    {SOL_SOCKET, SO_RCVLOWAT},
    {SOL_SOCKET, SO_OOBINLINE},
    {SOL_SOCKET, SO_RCVTIMEO},
    {SOL_SOCKET, SO_SNDTIMEO},
    {SOL_SOCKET, SO_BUSY_POLL},
    {SOL_SOCKET, SO_ZEROCOPY},
    {SOL_SOCKET, SO_DONTROUTE},
    {SOL_SOCKET, SO_MAX_PACING_RATE},
    {SOL_SOCKET, SO_TIMESTAMP},
    {SOL_SOCKET, SO_TIMESTAMPNS},
    {IPPROTO_TCP, TCP_NODELAY},
    {IPPROTO_TCP, TCP_MAXSEG},
    {IPPROTO_TCP, TCP_CORK},
    {IPPROTO_TCP, TCP_KEEPIDLE},
    {IPPROTO_TCP, TCP_KEEPINTVL},
    {IPPROTO_TCP, TCP_KEEPCNT},
    {IPPROTO_TCP, TCP_SYNCNT},
    {IPPROTO_TCP, TCP_LINGER2},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP},
    {IPPROTO_TCP, TCP_QUICKACK},
    {IPPROTO_TCP, TCP_CONGESTION},
    {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_FASTOPEN},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
    {IPPROTO_TCP, TCP_SAVE_SYN},
    {IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE},
    {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS},
    {IPPROTO_IP, IP_TOS},
    {IPPROTO_IP, IP_TTL},
    {IPPROTO_IP, IP_MTU_DISCOVER},
    {IPPROTO_IP, IP_MINTTL},
    {IPPROTO_IPV6, IPV6_TCLASS},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER},
    {SOL_SOCKET, SO_PRIORITY}, /* after IP_TOS, which changes it: ip(7) */
};

static int copy_one(int from, int to, struct option o)
{
    char want[OPTION_MAX] = {0}, have[OPTION_MAX] = {0};
    socklen_t want_len = sizeof want, have_len = sizeof have;
    /* An option that this kernel or address family does not know is the same on both. */
    if (getsockopt(from, o.level, o.name, want, &want_len) < 0 ||
        getsockopt(to, o.level, o.name, have, &have_len) < 0)
        return 0;
    if (want_len == have_len && memcmp(want, have, want_len) == 0)
        return 0;
    return setsockopt(to, o.level, o.name, want, want_len) < 0 ? -errno : 0;
}

static int copy_all(int from, int to, const struct option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int rc = copy_one(from, to, options[i]);
        if (rc)
            return rc;
    }
    return 0;
}

/* socket(7): the kernel doubles the value that it is given, and getsockopt returns the doubled one.
 * FORCE exceeds a limit that the program exceeded with its own CAP_NET_ADMIN, if we have that
 * capability too. */
static int copy_buffer(int from, int to, int name, int force)
{
    int want, have;
    socklen_t len = sizeof want;
    if (getsockopt(from, SOL_SOCKET, name, &want, &len) < 0 ||
        getsockopt(to, SOL_SOCKET, name, &have, &len) < 0 || want == have)
        return 0;
    want /= 2;
    if (setsockopt(to, SOL_SOCKET, force, &want, sizeof want) == 0)
        return 0;
    return setsockopt(to, SOL_SOCKET, name, &want, sizeof want) < 0 ? -errno : 0;
}

/* SO_GET_FILTER counts instructions, not bytes; it can read classic filters only. */
static int copy_filter(int from, int to)
{
    socklen_t count = 0;
    if (getsockopt(from, SOL_SOCKET, SO_GET_FILTER, NULL, &count) < 0)
        return 0;
    if (count == 0) {
        setsockopt(to, SOL_SOCKET, SO_DETACH_FILTER, &count, sizeof count); /* ENOENT: had none */
        return 0;
    }
    struct sock_filter *filter = calloc(count, sizeof *filter);
    if (!filter)
        return -ENOMEM;
    int rc = 0;
    if (getsockopt(from, SOL_SOCKET, SO_GET_FILTER, filter, &count) < 0)
        rc = -errno;
    if (!rc)
        rc = fs_socket_attach(to, SO_ATTACH_FILTER, filter, count);
    free(filter);
    return rc;
}

int options_copy_before_bind(int from, int to)
{
    return copy_all(from, to, before_bind, sizeof before_bind / sizeof *before_bind);
}

int options_copy(int from, int to)
{
    int rc = copy_buffer(from, to, SO_RCVBUF, SO_RCVBUFFORCE);
    if (!rc)
        rc = copy_buffer(from, to, SO_SNDBUF, SO_SNDBUFFORCE);
    if (!rc)
        rc = copy_all(from, to, any_time, sizeof any_time / sizeof *any_time);
    return rc ? rc : copy_filter(from, to);
}
