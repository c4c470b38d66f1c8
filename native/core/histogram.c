/* SPDX-License-Identifier: MIT
 *
 * Log-linear buckets: eight per power of two of microseconds, so that each time is known to an
 * eighth. They lie in memory that several processes share, so they may hold any value.
 */
#include <fastsocket/fs.h>

enum { BITS = 3, EACH = 1 << BITS }; /* buckets per power of two */

static uint32_t bucket_of(uint64_t us)
{
    if (us < EACH)
        return (uint32_t)us;
    uint32_t power = 63 - (uint32_t)__builtin_clzll(us);
    uint32_t bucket = (power - BITS) * EACH + (uint32_t)(us >> (power - BITS));
    return bucket < FS_BUCKETS ? bucket : FS_BUCKETS - 1;
}

uint64_t fs_bucket_end(uint32_t bucket)
{
    if (bucket < EACH)
        return bucket + 1;
    uint32_t shift = bucket / EACH - 1;
    return (uint64_t)(EACH + bucket % EACH + 1) << shift;
}

void fs_histogram_add(struct fs_histogram *h, uint64_t ns)
{
    __atomic_fetch_add(&h->sum, ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&h->count[bucket_of(ns / 1000)], 1, __ATOMIC_RELAXED);
}

void fs_histogram_read(const struct fs_histogram *h, struct fs_histogram *out)
{
    out->sum = __atomic_load_n(&h->sum, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < FS_BUCKETS; i++)
        out->count[i] = __atomic_load_n(&h->count[i], __ATOMIC_RELAXED);
}
