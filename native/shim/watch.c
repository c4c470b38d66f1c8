/* SPDX-License-Identifier: MIT */
#include "watch.h"
#include "fdtable.h"
#include "log.h"
#include "real.h"
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    WATCHES = 4096, /* registrations of listeners that are supported at a time */
    SOURCES = 1024, /* numbers for each: slots, bell and neighbour */
    IN_AND_OUT = 3, /* times that a listener may be taken out before its slot takes no arrivals */
};

static _Atomic(struct watch *) watches[WATCHES];
static size_t watch_count;
static uintptr_t tags; /* of registration i and source s: tags + i * SOURCES + s - FS_NEIGHBOUR */

/* ---- hidden registrations ---- */

static uint64_t tag_of(const struct watch *w, int source)
{
    return tags + w->number * SOURCES + (size_t)(source - FS_NEIGHBOUR);
}

static int hidden_add(void *context, int fd, int source, bool edge)
{
    struct watch *w = context;
    uint32_t how = (edge ? (uint32_t)EPOLLET : w->events & EPOLLET) |
                   (source >= 0 ? (uint32_t)EPOLLEXCLUSIVE : 0);
    struct epoll_event event = {.events = EPOLLIN | how, .data.u64 = tag_of(w, source)};
    if (real_epoll_ctl(w->set->epfd, EPOLL_CTL_ADD, fd, &event) < 0)
        return -errno;
    if (source == FS_NEIGHBOUR)
        fdtable_set(fd, FD_HIDDEN, NULL);
    return 0;
}

static void hidden_remove(void *context, int fd, int source)
{
    struct watch *w = context;
    if (!w->set->inherited)
        real_epoll_ctl(w->set->epfd, EPOLL_CTL_DEL, fd, NULL);
    if (source == FS_NEIGHBOUR)
        fdtable_set(fd, FD_PLAIN, NULL);
}

static void hidden_arm(void *context, int fd, int source, bool on)
{
    if (on)
        hidden_add(context, fd, source, true);
    else
        hidden_remove(context, fd, source);
}

static const struct fs_poller poller = {
    .add = hidden_add, .remove = hidden_remove, .arm = hidden_arm};

/* ---- watches ---- */

struct watch *watch_find(struct pollset *set, int fd)
{
    for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
        if (w->listener && w->fd == fd)
            return w;
    return NULL;
}

struct watch *watch_new(struct pollset *set, int fd, struct listener *l)
{
    struct watch *w = NULL;
    for (w = atomic_load(&set->watches); w && w->listener; w = w->next)
        ;
    if (!w) {
        if (!tags) {
            /* Address space only: no other data can point there. */
            void *space = mmap(NULL, (size_t)WATCHES * SOURCES, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (space == MAP_FAILED)
                return NULL;
            tags = (uintptr_t)space;
        }
        if (watch_count == WATCHES || !(w = calloc(1, sizeof *w)))
            return NULL;
        w->number = watch_count++;
        w->set = set;
        w->next = atomic_load(&set->watches);
        atomic_store(&watches[w->number], w);
        atomic_store(&set->watches, w);
    }
    w->fd = fd;
    w->wanted = w->applied = w->stale = false;
    w->outs = 0;
    atomic_store(&w->slot, FS_GLOBAL);
    w->listener = l;
    return w;
}

void watch_give_up(struct watch *w)
{
    struct fs_part *part = atomic_exchange(&w->part, NULL);
    if (part && w->set->inherited)
        fs_part_forget(part);
    else if (part)
        fs_part_close(part);
    w->spent = part ? part : w->spent;
    atomic_store(&w->applied, false);
    atomic_store(&w->slot, FS_GLOBAL);
}

void watch_rest(struct watch *w)
{
    if (!w->applied)
        return;
    if (w->outs > IN_AND_OUT) {
        fs_part_rest(w->part);
        w->applied = false;
    } else {
        w->outs++;
        watch_give_up(w);
        if (w->outs == IN_AND_OUT)
            log_line(LOG_INFO, "%s: repeatedly removed from epoll: no slot for this worker",
                     w->listener->name);
    }
}

/* Whether this thread is pinned to its slot's core, and the CPUs that it had before. */
static __thread struct {
    bool it_is;
    cpu_set_t before;
} pinned;

static bool is_to_pin(const struct fs_table *table)
{
    struct fs_table_info info;
    if (state.settings.pin != PIN_AUTO)
        return state.settings.pin == PIN_ON;
    fs_table_read(table, &info);
    return info.steer == FS_STEER_CPU;
}

static void pin(const struct watch *w, struct fs_table *table)
{
    struct fs_slot_info slot;
    cpu_set_t allowed, one;
    if (fs_table_read_slot(table, w->slot, &slot) < 0 || slot.cpu < 0 ||
        sched_getaffinity(0, sizeof allowed, &allowed) < 0 || !CPU_ISSET(slot.cpu, &allowed))
        return;
    CPU_ZERO(&one);
    CPU_SET(slot.cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0 && !pinned.it_is) {
        pinned.it_is = true;
        pinned.before = allowed;
    }
}

void watch_unpin(const struct fs_table *table)
{
    if (!pinned.it_is || is_to_pin(table))
        return;
    pinned.it_is = false;
    sched_setaffinity(0, sizeof pinned.before, &pinned.before);
}

/* Another thread that waits for the same set may be about to use a part that was given up. The
 * part's memory stays until no thread can be that late. */
static struct aside {
    struct fs_part *part;
    time_t since;
    struct aside *next;
} *asides;

enum {
    REST = 10,   /* seconds that a part's memory stays */
    MOST = 1000, /* parts that stay: only a test gives up more in that time */
};

static void put_aside(struct watch *w)
{
    struct timespec now;
    unsigned count = 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (struct aside **at = &asides, *old; (old = *at);) {
        if (now.tv_sec - old->since < REST && count++ < MOST) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        fs_part_free(old->part);
        free(old);
    }
    struct aside *aside = w->spent ? malloc(sizeof *aside) : NULL;
    if (aside) { /* else the memory leaks, which is better than a use after free */
        *aside = (struct aside){.part = w->spent, .since = now.tv_sec, .next = asides};
        asides = aside;
    }
    w->spent = NULL;
}

void watch_take_part(struct watch *w)
{
    struct fs_table *table = atomic_load(&w->listener->table);
    if (!table)
        return;
    bool fresh = !w->part;
    if (fresh) {
        put_aside(w);
        int flags = real_fcntl(w->fd, F_GETFL);
        /* accept() of a blocking listener waits for the global listener alone: claim nothing. */
        struct fs_part *part;
        if (flags < 0 || !(flags & O_NONBLOCK) ||
            fs_part_open(&part, table, FS_GLOBAL, false, &poller, w) < 0)
            return;
        atomic_store(&w->part, part);
        if (w->outs >= IN_AND_OUT) {
            w->outs = IN_AND_OUT + 1;
            fs_part_park(w->part);
        }
    }
    w->stale = false;
    fs_part_resume(w->part);
    int before = w->slot, rc = fs_part_sync(w->part);
    if (rc > 0)
        rc = fs_part_activate(w->part);
    atomic_store(&w->slot, fs_part_slot(w->part));
    atomic_store(&w->applied, true);
    if (w->slot != before && w->slot != FS_GLOBAL) {
        log_line(LOG_INFO, "%s: thread %d has slot %d", w->listener->name, fs_thread_id(), w->slot);
        if (is_to_pin(table))
            pin(w, table);
    }
    watch_unpin(table);
    if (fresh && w->slot == FS_GLOBAL)
        log_line(LOG_INFO, "%s: thread %d has no slot: none is free, so it helps the others",
                 w->listener->name, fs_thread_id());
    if (rc)
        log_line(LOG_ERROR, "%s: steering: %s", w->listener->name, strerror(-rc));
}

bool watch_in_order(const struct watch *w)
{
    return !w->listener || (w->wanted == w->applied && !w->stale);
}

bool watch_of_event(const struct pollset *set, const struct epoll_event *event, struct watch **w,
                    int *source)
{
    uint64_t at = event->data.u64 - tags;
    if (!tags || at >= (uint64_t)WATCHES * SOURCES)
        return false;
    *w = atomic_load(&watches[at / SOURCES]);
    *source = (int)(at % SOURCES) + FS_NEIGHBOUR;
    if (*w && ((*w)->set != set || !(*w)->listener))
        *w = NULL;
    return true;
}
