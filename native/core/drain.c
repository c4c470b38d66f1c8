/* SPDX-License-Identifier: MIT */
#include "drain.h"

#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int drain_stop_arrivals(int fd)
{
    /* A listener's filter sees the segment from its TCP header on (tcp_filter in net/ipv4), for
     * IPv6 too; byte 13 holds the flags. A listener gets no SYN|ACK, so any SYN is a new client's:
     * it sends again, and is refused once the listener is closed. */
    struct sock_filter drop_syn[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x02, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = {.len = sizeof drop_syn / sizeof *drop_syn, .filter = drop_syn};
    /* Some kernels want CAP_NET_ADMIN for a filter. Then, on an interface that there is none of: no
     * SYN is for this listener any more (compute_score, net/ipv4/inet_hashtables.c), the client is
     * refused at once; a handshake under way keeps what its listener had when the SYN came. The
     * number is not looked up, and asks for no privilege the first time (sock_bindtoindex_locked,
     * net/core/sock.c). */
    int nowhere = INT_MAX, bound = 0, off = 0;
    socklen_t len = sizeof bound;
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) {
        if (errno != EPERM)
            return -errno;
        /* Refused where it is done already; looked at after, as others stop at the same time. */
        if (setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &nowhere, sizeof nowhere) < 0) {
            int refused = errno;
            if (getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &bound, &len) < 0)
                return -errno;
            if (bound != nowhere)
                return -refused;
        }
    }
    return setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &off, sizeof off) < 0 ? -errno : 0;
}

int drain_queued(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0) {
        if (errno != EOPNOTSUPP) /* of a unix socket, which tells no number */
            return -errno;
    } else if (info.tcpi_unacked > 0) {
        /* tcp_get_info: in LISTEN state this field is the length of the accept queue. */
        return (int)info.tcpi_unacked;
    }
    /* Here, or in a queue that the kernel module has behind it. */
    struct pollfd look = {.fd = fd, .events = POLLIN};
    if (poll(&look, 1, 0) < 0)
        return -errno;
    return look.revents & POLLIN ? 1 : 0;
}

/* What a socket's local address must be to count; length 0: any address. */
struct local {
    uint16_t port;
    size_t length;
    unsigned char address[16];
};

static int count_dump(int netlink, const struct local *local)
{
    union {
        struct nlmsghdr header;
        char bytes[16384];
    } answer;
    int count = 0;
    for (;;) {
        ssize_t got = recv(netlink, &answer, sizeof answer, 0);
        if (got < 0)
            return -errno;
        size_t left = (size_t)got;
        for (struct nlmsghdr *h = &answer.header; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_DONE)
                return count;
            if (h->nlmsg_type == NLMSG_ERROR)
                return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
            const struct inet_diag_msg *socket = NLMSG_DATA(h);
            count += socket->id.idiag_sport == local->port &&
                     memcmp(socket->id.idiag_src, local->address, local->length) == 0;
        }
    }
}

static int count_half_open(int netlink, uint8_t family, const struct local *local)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } dump = {
        .header = {.nlmsg_len = sizeof dump,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = family,
                    .sdiag_protocol = IPPROTO_TCP,
                    .idiag_states = 1u << TCP_SYN_RECV},
    };
    if (send(netlink, &dump, sizeof dump, 0) < 0)
        return -errno;
    return count_dump(netlink, local);
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
    struct local local = {0};
    bool v4 = name.any.sa_family == AF_INET, v6 = name.any.sa_family == AF_INET6;
    if (v4) {
        local.port = name.v4.sin_port;
        local.length = name.v4.sin_addr.s_addr == INADDR_ANY ? 0 : sizeof name.v4.sin_addr;
        memcpy(local.address, &name.v4.sin_addr, sizeof name.v4.sin_addr);
    } else if (v6) {
        local.port = name.v6.sin6_port;
        if (IN6_IS_ADDR_UNSPECIFIED(&name.v6.sin6_addr) || IN6_IS_ADDR_V4MAPPED(&name.v6.sin6_addr))
            v4 = true; /* a dual-stack listener has requests of both families */
        else
            local.length = sizeof name.v6.sin6_addr;
        memcpy(local.address, &name.v6.sin6_addr, sizeof name.v6.sin6_addr);
    } else {
        return 0; /* a unix connect(2) is complete at once */
    }
    int netlink = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (netlink < 0)
        return -errno;
    int count = v4 ? count_half_open(netlink, AF_INET, &local) : 0;
    if (count >= 0 && v6) {
        int more = count_half_open(netlink, AF_INET6, &local);
        count = more < 0 ? more : count + more;
    }
    close(netlink);
    return count;
}
