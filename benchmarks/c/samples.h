/* SPDX-License-Identifier: MIT
 *
 * Latencies of one run, and the line of JSON that the harness reads.
 */
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* A longer latency counts as delayed. */
#define DELAYED_NS 10000000

struct samples {
    int64_t *ns;
    size_t count, room;
};

static inline int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline void samples_add(struct samples *s, int64_t ns)
{
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 4096;
        s->ns = realloc(s->ns, s->room * sizeof *s->ns);
        if (!s->ns)
            abort();
    }
    s->ns[s->count++] = ns;
}

static inline int samples_order(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static inline double samples_us(const struct samples *sorted, double share)
{
    size_t i = (size_t)(share * (double)sorted->count);
    return sorted->count ? (double)sorted->ns[i < sorted->count ? i : sorted->count - 1] / 1e3 : 0;
}

/* `requests` counts all answered requests; `s` has the latencies that are reported. */
static inline void samples_print(struct samples *s, size_t requests, size_t errors, int64_t ns)
{
    size_t delayed = 0;
    qsort(s->ns, s->count, sizeof *s->ns, samples_order);
    while (delayed < s->count && s->ns[s->count - 1 - delayed] > DELAYED_NS)
        delayed++;
    printf("{\"requests\": %zu, \"errors\": %zu, \"seconds\": %.6f, \"p50\": %.1f, \"p99\": %.1f, "
           "\"p999\": %.1f, \"delayed\": %.5f}\n",
           requests, errors, (double)ns / 1e9, samples_us(s, 0.50), samples_us(s, 0.99),
           samples_us(s, 0.999), s->count ? (double)delayed / (double)s->count : 0);
    fflush(stdout);
}

#endif
