/* SPDX-License-Identifier: MIT
 *
 * Helpers for any socket, in addition to those in fs.h.
 */
#ifndef FS_CORE_SOCKET_H
#define FS_CORE_SOCKET_H

#include <fastsocket/fs.h>
#include <linux/filter.h>

/* Whether a call of the set-up failed because this kernel, or a sandbox, does not allow it: ENOSYS
 * and ENOPROTOOPT from older and smaller kernels, any errno from a seccomp filter. The other errors
 * are a lack of memory or descriptors, and the caller's mistakes. */
bool fs_is_refused(int rc);

/* Attach a classic BPF program by SO_ATTACH_FILTER or its kind. 0 or -errno. */
int fs_socket_attach(int fd, int option, const struct sock_filter *program, size_t length);

#endif
