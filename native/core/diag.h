/* SPDX-License-Identifier: MIT
 *
 * TCP sockets as the kernel lists them, sock_diag(7): of the network namespace of this process.
 */
#ifndef FS_CORE_DIAG_H
#define FS_CORE_DIAG_H

#include <linux/inet_diag.h>
#include <stdint.h>

/* Call `each` for every TCP socket of a family (AF_INET, AF_INET6) in one of the states, a set of
 * bits `1 << TCP_...`, and at a port in network order (0: any). Returns 0, or -errno: this kernel
 * has no inet_diag, or a filter refuses netlink. */
int diag_sockets(int family, uint32_t states, uint16_t port,
                 void (*each)(void *context, const struct inet_diag_msg *socket), void *context);

#endif
