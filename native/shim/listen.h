/* SPDX-License-Identifier: MIT
 *
 * listen(2): which sockets get a table, with how many slots, and where their descriptors go.
 */
#ifndef FS_SHIM_LISTEN_H
#define FS_SHIM_LISTEN_H

int shim_listen(int fd, int backlog);

#endif
