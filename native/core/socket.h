/* SPDX-License-Identifier: MIT
 *
 * What is asked of any socket beside what fs.h has, in one place.
 */
#ifndef FS_CORE_SOCKET_H
#define FS_CORE_SOCKET_H

#include <fastsocket/fs.h>
#include <linux/filter.h>

/* Whether a call of the set-up failed because this kernel, or a sandbox, does not have it: ENOSYS
 * and ENOPROTOOPT from older and smaller kernels, whatever it likes from a seccomp filter. What is
 * left is a lack of memory or descriptors, and the caller's mistakes. */
bool fs_is_refused(int rc);

/* Attach a classic BPF program by SO_ATTACH_FILTER or its kind. 0 or -errno. */
int fs_socket_attach(int fd, int option, const struct sock_filter *program, size_t length);

#endif
