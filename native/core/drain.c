/* SPDX-License-Identifier: MIT */
#include "drain.h"
#include "diag.h"
#include "socket.h"

#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

int drain_stop_arrivals(int fd)
{
    /* A listener's filter sees the segment from its TCP header on (tcp_filter in net/ipv4), for
     * IPv6 too; byte 13 holds the flags. A listener gets no SYN|ACK, so any SYN is a new client's.
     * The client sends it again, and is refused once the listener is closed. */
    struct sock_filter drop_syn[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x02, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    /* Some kernels want CAP_NET_ADMIN for a filter. Then bind the listener to an interface that
     * does not exist: no SYN is for this listener any more (compute_score,
     * net/ipv4/inet_hashtables.c), and clients are refused at once. A handshake in progress keeps
     * the binding that its listener had when the SYN came. The number is not looked up, and setting
     * it needs no privilege the first time (sock_bindtoindex_locked, net/core/sock.c). */
    int nowhere = INT_MAX, bound = 0, off = 0;
    socklen_t len = sizeof bound;
    int rc = fs_socket_attach(fd, SO_ATTACH_FILTER, drop_syn, sizeof drop_syn / sizeof *drop_syn);
    if (rc) {
        if (!fs_is_refused(rc))
            return rc;
        /* The call is refused if the listener is bound already. Check that after the call, because
         * other processes stop at the same time. */
        if (setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &nowhere, sizeof nowhere) < 0) {
            int refused = errno;
            if (getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &bound, &len) < 0)
                return -errno;
            if (bound != nowhere)
                return -refused;
        }
    }
    rc = setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &off, sizeof off) < 0 ? -errno : 0;
    return fs_is_refused(rc) ? 0 : rc; /* if refused, it was never on */
}

int drain_queued(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0) {
        if (!fs_is_refused(-errno)) /* a unix socket refuses: it tells no number */
            return -errno;
    } else if (info.tcpi_unacked > 0) {
        /* tcp_get_info: in LISTEN state this field is the length of the accept queue. */
        return (int)info.tcpi_unacked;
    }
    /* A connection waits here, or in a queue that the kernel module has behind this socket. */
    struct pollfd look = {.fd = fd, .events = POLLIN};
    if (poll(&look, 1, 0) < 0)
        return -errno;
    return look.revents & POLLIN ? 1 : 0;
}

/* The number of sockets at a local address; length 0: at any address. */
struct at_address {
    uint16_t port;
    size_t length;
    unsigned char address[16];
    int count;
};

static void count_one(void *context, const struct inet_diag_msg *socket)
{
    struct at_address *at = context;
    at->count += socket->id.idiag_sport == at->port &&
                 memcmp(socket->id.idiag_src, at->address, at->length) == 0;
}

int drain_half_open(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage space;
    } name;
    socklen_t len = sizeof name;
    if (getsockname(fd, &name.any, &len) < 0)
        return -errno;
    struct at_address at = {0};
    bool v4 = name.any.sa_family == AF_INET, v6 = name.any.sa_family == AF_INET6;
    if (v4) {
        at.port = name.v4.sin_port;
        at.length = name.v4.sin_addr.s_addr == INADDR_ANY ? 0 : sizeof name.v4.sin_addr;
        memcpy(at.address, &name.v4.sin_addr, sizeof name.v4.sin_addr);
    } else if (v6) {
        at.port = name.v6.sin6_port;
        if (IN6_IS_ADDR_UNSPECIFIED(&name.v6.sin6_addr) || IN6_IS_ADDR_V4MAPPED(&name.v6.sin6_addr))
            v4 = true; /* a dual-stack listener has requests of both families */
        else
            at.length = sizeof name.v6.sin6_addr;
        memcpy(at.address, &name.v6.sin6_addr, sizeof name.v6.sin6_addr);
    } else {
        return 0; /* a unix connect(2) is complete at once */
    }
    int rc = v4 ? diag_sockets(AF_INET, 1u << TCP_SYN_RECV, at.port, count_one, &at) : 0;
    if (!rc && v6)
        rc = diag_sockets(AF_INET6, 1u << TCP_SYN_RECV, at.port, count_one, &at);
    return rc ? rc : at.count;
}
