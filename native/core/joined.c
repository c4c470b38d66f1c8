/* SPDX-License-Identifier: MIT
 *
 * Whether a stranger listens at a table's address too. Slots need SO_REUSEPORT, and while they
 * live, any socket of the same user that sets the option may join their group (inet_csk_get_port).
 * The steering program never chooses a stranger: members are numbered in the order of their
 * arrival, ours first, and our slots stay open.
 */
#include "diag.h"
#include "table.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

struct place {
    const void *address;
    size_t length;
    uint16_t port;
    uint32_t device;
    uint32_t listening;
};

static void count_listener(void *context, const struct inet_diag_msg *socket)
{
    struct place *here = context;
    here->listening += socket->id.idiag_sport == here->port &&
                       socket->id.idiag_if == here->device &&
                       memcmp(socket->id.idiag_src, here->address, here->length) == 0;
}

static uint32_t ours(const struct fs_table *t)
{
    int global = t->global;
    uint32_t count = !t->first_is_slot && fs_socket_listens(global);
    for (uint32_t i = 0; i < t->made; i++)
        count += fs_socket_listens(t->fds[i]);
    return count;
}

int fs_table_joined(struct fs_table *t)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&t->address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&t->address;
    struct place here;
    if (t->shared || t->read_only)
        return 0;
    if (t->address.ss_family == AF_INET)
        here = (struct place){&v4->sin_addr, sizeof v4->sin_addr, .port = v4->sin_port};
    else
        here = (struct place){&v6->sin6_addr, sizeof v6->sin6_addr, .port = v6->sin6_port};
    int device = fs_socket_option(t->global, SOL_SOCKET, SO_BINDTOIFINDEX);
    if (device < 0)
        return device;
    here.device = (uint32_t)device;
    uint32_t own = ours(t); /* counted first: they may be shut down meanwhile */
    int rc = diag_sockets(t->address.ss_family, 1u << TCP_LISTEN, here.port, count_listener, &here);
    if (rc)
        return rc;
    return flag_write(&t->page->joined, here.listening > own) && flag_read(&t->page->joined);
}
