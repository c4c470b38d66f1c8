/* SPDX-License-Identifier: MIT */
#ifndef FS_CORE_CLOCK_H
#define FS_CORE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_A_MS UINT64_C(1000000)

/* CLOCK_MONOTONIC in nanoseconds: the same in all processes of a machine, and never 0. */
static inline uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

#endif
