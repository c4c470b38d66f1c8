/* SPDX-License-Identifier: MIT */
#include "fdtable.h"

#include <errno.h>
#include <stdlib.h>

_Atomic(_Atomic(uintptr_t) *) fdtable_chunk[FD_CHUNKS];

int fdtable_set(int fd, enum fd_kind kind, void *object)
{
    unsigned number = (unsigned)fd;
    if (number >= (unsigned)FD_CHUNK * FD_CHUNKS)
        return -EBADF;
    _Atomic(uintptr_t) *chunk = atomic_load(&fdtable_chunk[number / FD_CHUNK]);
    if (!chunk && kind == FD_PLAIN)
        return 0;
    if (!chunk) {
        chunk = calloc(FD_CHUNK, sizeof *chunk);
        if (!chunk)
            return -ENOMEM;
        _Atomic(uintptr_t) *none = NULL;
        if (!atomic_compare_exchange_strong(&fdtable_chunk[number / FD_CHUNK], &none, chunk)) {
            free((void *)chunk);
            chunk = none;
        }
    }
    atomic_store_explicit(&chunk[number % FD_CHUNK], (uintptr_t)object | (uintptr_t)kind,
                          memory_order_release);
    return 0;
}

int fdtable_next(unsigned first, unsigned last)
{
    const unsigned end = (unsigned)FD_CHUNK * FD_CHUNKS;
    for (unsigned fd = first; fd <= last && fd < end; fd++) {
        if (!atomic_load(&fdtable_chunk[fd / FD_CHUNK])) {
            fd |= FD_CHUNK - 1; /* the whole chunk is empty */
            continue;
        }
        if (fdtable_kind((int)fd) != FD_PLAIN)
            return (int)fd;
    }
    return -1;
}
