/* SPDX-License-Identifier: MIT
 *
 * The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt): ahead of a
 * connection's bytes, a proxy sends a header with the address of the client.
 */
#ifndef FASTSOCKET_PROXY_H
#define FASTSOCKET_PROXY_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#define FS_PROXY_MOST 4096 /* most bytes of a header; one of version 1 has 107 at most */

/* Parse the header at the beginning of `data`. Returns its length; 0: more bytes may complete a
 * header; -EPROTO: it is not a valid header, or is longer than FS_PROXY_MOST. *length is the size
 * of *client: 0 where the proxy speaks for itself, or does not name the client. */
ssize_t fs_proxy_header(const char *data, size_t size, struct sockaddr_storage *client,
                        socklen_t *length);

#endif
