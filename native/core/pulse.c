/* SPDX-License-Identifier: MIT
 *
 * A thread's pulse: whether the thread waits for events or works. All of its parts are told, and
 * its supervisor. A loop says so at each turn; libuv's loop does it with handles of its own.
 */
#include "clock.h"
#include "part.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fs_pulse {
    struct fs_worker_page *page; /* or NULL */
    size_t count, room;
    struct fs_part **parts;
    bool ended; /* freed by the last part that leaves */
};

int fs_pulse_open(struct fs_pulse **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : -ENOMEM;
}

void fs_pulse_free(struct fs_pulse *p)
{
    if (!p)
        return;
    p->ended = true;
    if (p->count > 0)
        return;
    free(p->parts);
    free(p);
}

int fs_pulse_join(struct fs_pulse *p, struct fs_part *part)
{
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 4;
        struct fs_part **parts = realloc(p->parts, room * sizeof *parts);
        if (!parts)
            return -ENOMEM;
        p->parts = parts;
        p->room = room;
    }
    p->parts[p->count++] = part;
    return 0;
}

void fs_pulse_leave(struct fs_pulse *p, struct fs_part *part)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->parts[i] == part)
            p->parts[i] = p->parts[--p->count];
    if (p->ended)
        fs_pulse_free(p);
}

void fs_pulse_show(struct fs_pulse *p, struct fs_worker_page *page)
{
    if (page)
        snprintf(page->release, sizeof page->release, "%s", FS_RELEASE);
    p->page = page;
}

uint64_t fs_worker_busy(const struct fs_worker_page *page)
{
    uint64_t busy = __atomic_load_n(&page->busy, __ATOMIC_SEQ_CST);
    uint64_t pool = __atomic_load_n(&page->pool, __ATOMIC_SEQ_CST);
    uint64_t since = !busy || (pool && pool < busy) ? pool : busy, now = clock_ns();
    bool ours = strncmp(page->release, FS_RELEASE, sizeof page->release) == 0;
    return ours && since && since < now ? now - since : 0;
}

void fs_worker_pool(struct fs_worker_page *page, uint64_t since)
{
    __atomic_store_n(&page->pool, since, __ATOMIC_SEQ_CST);
}

void fs_pulse_waits(struct fs_pulse *p)
{
    if (p->page && p->page->busy) {
        fs_count(&p->page->counters.worked, clock_ns() - p->page->busy);
        __atomic_store_n(&p->page->busy, 0, __ATOMIC_RELAXED);
    }
    for (size_t i = 0; i < p->count; i++)
        fs_part_waits(p->parts[i]);
}

void fs_pulse_runs(struct fs_pulse *p)
{
    if (p->page && p->page->busy == 0)
        __atomic_store_n(&p->page->busy, clock_ns(), __ATOMIC_RELAXED);
    for (size_t i = 0; i < p->count; i++)
        fs_part_runs(p->parts[i]);
}

void fs_pulse_before_poll(void *handle)
{
    fs_pulse_waits(*((struct fs_pulse **)handle - FS_PULSE_BEFORE));
}

void fs_pulse_after_poll(void *handle)
{
    fs_pulse_runs(*((struct fs_pulse **)handle - FS_PULSE_BEFORE));
}
