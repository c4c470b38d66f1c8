/* SPDX-License-Identifier: MIT
 *
 * The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt): what a proxy sends
 * ahead of a connection's bytes, to say whose they are.
 */
#ifndef FASTSOCKET_PROXY_H
#define FASTSOCKET_PROXY_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#define FS_PROXY_MOST 4096 /* bytes of a header; one of version 1 has 107 at most */

/* The header at the beginning of `data`. Returns its length; 0: it may become one, with more bytes;
 * -EPROTO: it is none, or is longer than FS_PROXY_MOST. *length is the size of *client: 0 where the
 * proxy speaks for itself, or does not say whose connection it is. */
ssize_t fs_proxy_header(const char *data, size_t size, struct sockaddr_storage *client,
                        socklen_t *length);

#endif
