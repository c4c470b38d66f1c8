/* SPDX-License-Identifier: MIT
 *
 * Where a new connection goes: the classic BPF program of a reuseport group, and the choice
 * between `cpu` and `spread` for a given address. It does not know pages or claims.
 */
#ifndef FS_CORE_STEER_H
#define FS_CORE_STEER_H

#include <fastsocket/fs.h>
#include <linux/filter.h>

/* One slot that takes connections: its number in the kernel's group, and its core (-1: none). */
struct steer_member {
    uint32_t member;
    int cpu;
};

/* Length of the longest program for n members: each member is once in a core's block (at most 4
 * instructions), and once in the spread. */
#define STEER_PROGRAM_MAX(n) (6 * (size_t)(n) + 8)

/* Write the program for `mode` over the live members; if none is live, all connections go to member
 * 0, the global listener. Every path returns a live member, because an index out of range makes the
 * kernel hash over all members, including those without an owner (net/core/sock_reuseport.c).
 * Returns the program's length. */
size_t steer_program(struct sock_filter *out, enum fs_steer mode, const struct steer_member *live,
                     size_t count);

/* Put a program in force through a listening member of the group. */
int steer_attach(int fd, const struct sock_filter *program, size_t length);

/* The steering that `auto` means for connections to this address on this machine, and the
 * reason. */
enum fs_steer steer_choose(const struct sockaddr *address, char why[FS_WHY_MAX]);

#endif
