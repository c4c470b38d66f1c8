/* SPDX-License-Identifier: MIT
 *
 * Our knowledge of each descriptor of this process: one word, which every interposed call reads
 * without a lock. Of the meaning of the words, this file knows only the kinds.
 */
#ifndef FS_SHIM_FDTABLE_H
#define FS_SHIM_FDTABLE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fd_kind {
    FD_PLAIN,    /* none of ours */
    FD_LISTENER, /* a struct listener's global listener, or a duplicate of it */
    FD_POLLSET,  /* an epoll set that a listener was added to: struct pollset */
    FD_HIDDEN,   /* a slot, page, bell or pidfd of ours: the program does not know it */
};

enum { FD_CHUNK = 4096, FD_CHUNKS = 4096 }; /* more than any sensible fs.nr_open */

extern _Atomic(_Atomic(uintptr_t) *) fdtable_chunk[FD_CHUNKS];

static inline uintptr_t fdtable_word(int fd)
{
    unsigned number = (unsigned)fd;
    if (number >= (unsigned)FD_CHUNK * FD_CHUNKS)
        return 0;
    _Atomic(uintptr_t) *chunk =
        atomic_load_explicit(&fdtable_chunk[number / FD_CHUNK], memory_order_acquire);
    return chunk ? atomic_load_explicit(&chunk[number % FD_CHUNK], memory_order_acquire) : 0;
}

static inline enum fd_kind fdtable_kind(int fd)
{
    return (enum fd_kind)(fdtable_word(fd) & 3);
}

/* The object, if `fd` is of that kind; else NULL. */
static inline void *fdtable_get(int fd, enum fd_kind kind)
{
    uintptr_t word = fdtable_word(fd);
    return (word & 3) == (uintptr_t)kind ? (void *)(word & ~(uintptr_t)3) : NULL;
}

/* True, and errno is EBADF: as far as the program knows, there is no such descriptor. */
static inline bool fdtable_hides(int fd)
{
    if (fdtable_kind(fd) != FD_HIDDEN)
        return false;
    errno = EBADF;
    return true;
}

/* 0 or -ENOMEM / -EBADF. The object is aligned to 4 bytes at least. FD_PLAIN forgets it. */
int fdtable_set(int fd, enum fd_kind kind, void *object);

/* The next descriptor from `first` to `last` that is not FD_PLAIN, or -1. */
int fdtable_next(unsigned first, unsigned last);

#endif
