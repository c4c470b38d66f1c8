/* SPDX-License-Identifier: MIT */
#include "diag.h"

#include <errno.h>
#include <fastsocket/fs.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

static int receive(int netlink, void (*each)(void *context, const struct inet_diag_msg *socket),
                   void *context)
{
    union {
        struct nlmsghdr header;
        char bytes[16384];
    } answer;
    for (;;) {
        ssize_t got = recv(netlink, &answer, sizeof answer, 0);
        if (got < 0)
            return -errno;
        size_t left = (size_t)got;
        for (struct nlmsghdr *h = &answer.header; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_DONE)
                return 0;
            if (h->nlmsg_type == NLMSG_ERROR)
                return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
            each(context, NLMSG_DATA(h));
        }
    }
}

int diag_sockets(int family, uint32_t states, uint16_t port,
                 void (*each)(void *context, const struct inet_diag_msg *socket), void *context)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } dump = {
        .header = {.nlmsg_len = sizeof dump,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = (uint8_t)family,
                    .sdiag_protocol = IPPROTO_TCP,
                    .idiag_states = states,
                    .id.idiag_sport = port},
    };
    int netlink = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (netlink < 0)
        return -errno;
    int rc = send(netlink, &dump, sizeof dump, 0) < 0 ? -errno : receive(netlink, each, context);
    close(netlink);
    return rc;
}

struct queues {
    struct fs_queue *out;
    uint32_t room, count;
};

static void add_queue(void *context, const struct inet_diag_msg *socket)
{
    struct queues *q = context;
    if (q->count < q->room) {
        uint64_t cookie = socket->id.idiag_cookie[0] | (uint64_t)socket->id.idiag_cookie[1] << 32;
        q->out[q->count] = (struct fs_queue){
            .cookie = cookie, .length = socket->idiag_rqueue, .limit = socket->idiag_wqueue};
    }
    q->count++;
}

int fs_queues(struct fs_queue *out, uint32_t room)
{
    struct queues queues = {.out = out, .room = room};
    int rc = diag_sockets(AF_INET, 1u << TCP_LISTEN, 0, add_queue, &queues);
    if (!rc)
        rc = diag_sockets(AF_INET6, 1u << TCP_LISTEN, 0, add_queue, &queues);
    return rc ? rc : (int)queues.count;
}
