/* SPDX-License-Identifier: MIT
 *
 * A thread's pulse: whether it waits for events or works, told to all its parts, and to whoever
 * supervises it. A loop says so at each turn; libuv's by handles of its own.
 */
#include "clock.h"
#include "part.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A page that the thread's process and its supervisor map, and nobody else. */
struct pulse_page {
    char release[16];
    _Atomic(uint64_t) busy; /* as in struct part_record */
    _Atomic(uint64_t) pool; /* the same of a pool of threads that works for it: all are busy */
};

struct fs_pulse {
    struct pulse_page *page; /* or NULL */
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

_Static_assert(sizeof(struct pulse_page) <= FS_PULSE_PAGE, "the page that is told of");

void fs_pulse_show(struct fs_pulse *p, void *page)
{
    struct pulse_page *shown = page;
    if (shown)
        snprintf(shown->release, sizeof shown->release, "%s", FS_RELEASE);
    p->page = shown;
}

uint64_t fs_pulse_busy(const void *page)
{
    const struct pulse_page *shown = page;
    uint64_t busy = atomic_load(&shown->busy), pool = atomic_load(&shown->pool);
    uint64_t since = !busy || (pool && pool < busy) ? pool : busy, now = clock_ns();
    bool ours = strncmp(shown->release, FS_RELEASE, sizeof shown->release) == 0;
    return ours && since && since < now ? now - since : 0;
}

void fs_pulse_pool(void *page, uint64_t since)
{
    atomic_store(&((struct pulse_page *)page)->pool, since);
}

void fs_pulse_waits(struct fs_pulse *p)
{
    if (p->page)
        atomic_store_explicit(&p->page->busy, 0, memory_order_relaxed);
    for (size_t i = 0; i < p->count; i++)
        fs_part_waits(p->parts[i]);
}

void fs_pulse_runs(struct fs_pulse *p)
{
    if (p->page && atomic_load_explicit(&p->page->busy, memory_order_relaxed) == 0)
        atomic_store_explicit(&p->page->busy, clock_ns(), memory_order_relaxed);
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
