/* SPDX-License-Identifier: MIT
 *
 * Whether a part takes a connection that waits at a sibling's slot.
 *
 * A burst wakes siblings although the owner is about to come: the owner was woken too and has no
 * core yet (part.c, facts). If siblings took at once, the one that happens to run would take nearly
 * all connections. So they compare loads: the connections that a thread holds and those that wait
 * for it. They also check whether the owner is late: the longer of the time for which it has not
 * waited, and the time for which its turns were seen standing still. A sibling looks again, soon,
 * at the connections that it leaves alone. Until then the slot does not wake it, or each connection
 * that comes to a busy owner would wake a sibling for nothing.
 *
 *   nothing waits there any more                               look again, rarely
 *   its load is ours + 2, or + 12 %                            take one
 *   late for 2 ms, and its load is greater than ours           take one
 *   busy for 2 ms, and asleep: a handler that blocks           take one
 *   late for LATE, at any load                                 take one
 *   else                                                       look again
 *
 * Where a thread does not count its connections (a program under the preload library), loads are
 * not compared. A slot whose owner is late is steered away from until the owner turns again: new
 * connections need not wait.
 *
 * The compared values stand in the page, so siblings can lie. Liars gain connections, or lose them.
 */
#include "clock.h"
#include "part.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>

#define TARDY  (2 * NS_A_MS)
#define LATE   (50 * NS_A_MS)
#define MARGIN 2 /* connections, at least */

/* Milliseconds until the next look: at connections that wait; and at a queue that was empty, where
 * siblings are woken for nothing and soon would be again. Each look wakes a thread. */
static const unsigned look_ms[] = {0, 80, 40, FS_LOOK_MS}; /* by number of looks that are left */
enum { AT_EMPTY = 2, AT_WAITING = 3 };

/* The number of connections in a listener's queue: in LISTEN state tcpi_unacked is its length
 * (tcp_get_info). The kernel writes only the part of the structure that is requested, which costs a
 * third. */
static int64_t queue_length(int fd)
{
    struct tcp_info info = {0};
    socklen_t length = offsetof(struct tcp_info, tcpi_unacked) + sizeof info.tcpi_unacked;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0)
        return info.tcpi_unacked;
    struct pollfd look = {.fd = fd, .events = POLLIN}; /* TCP_INFO is refused: 1 or 0 */
    return poll(&look, 1, 0) > 0 && look.revents & POLLIN ? 1 : 0;
}

/* The parts that accept from a slot first: its owner, and in a reload also the owner's
 * predecessor. */
struct owners {
    int64_t open; /* connections that they hold together; < 0: not counted */
    uint64_t turns;
    uint64_t busy; /* ns for which the least busy of them is busy */
    const struct part_record *one;
};

static uint64_t busy_for(const struct part_record *r, uint64_t now)
{
    uint64_t since = atomic_load_explicit(&r->busy, memory_order_acquire);
    return since && since < now ? now - since : 0;
}

static struct owners owners_of(const struct fs_table *t, uint32_t slot, uint64_t now)
{
    const struct part_record *records = page_parts(&t->map);
    struct owners o = {.open = FS_UNCOUNTED};
    for (uint32_t i = 0; i < t->map.parts; i++) {
        const struct part_record *r = &records[i];
        if (atomic_load_explicit(&r->pid, memory_order_relaxed) <= 0 ||
            atomic_load_explicit(&r->slot, memory_order_relaxed) != (int32_t)slot)
            continue;
        int32_t open = atomic_load_explicit(&r->open, memory_order_relaxed);
        uint64_t busy = busy_for(r, now);
        o.turns += atomic_load_explicit(&r->turns, memory_order_relaxed);
        if (!o.one) {
            o.open = open;
            o.busy = busy;
            o.one = r;
            continue;
        }
        o.open = o.open < 0 || open < 0 ? FS_UNCOUNTED : o.open + open;
        if (busy < o.busy) {
            o.busy = busy;
            o.one = r;
        }
    }
    return o;
}

static int64_t own_queue(const struct fs_part *p)
{
    return p->slot == FS_GLOBAL ? 0 : queue_length(p->table->fds[p->slot]);
}

/* Whether the loads alone allow to take one, without a late owner. */
static bool far_below(int64_t mine, int64_t theirs)
{
    int64_t margin = mine * 12 / 100;
    return theirs - mine >= (margin > MARGIN ? margin : MARGIN);
}

/* Reading /proc costs more than all the rest. So a thread that was seen running is checked again
 * only when it has been busy for twice as long. */
static bool sleeps(struct watched *w, const struct owners *o)
{
    if (!o->one || o->busy <= TARDY || o->busy < 2 * w->asked)
        return false;
    if (thread_sleeps(atomic_load(&o->one->pid), atomic_load(&o->one->tid)))
        return true;
    w->asked = o->busy;
    return false;
}

static bool is_to_take(struct fs_part *p, uint32_t slot, int64_t queue)
{
    struct watched *w = &p->watched[slot];
    uint64_t now = clock_ns();
    struct owners owners = owners_of(p->table, slot, now);
    if (w->since == 0 || w->turns != owners.turns) {
        w->turns = owners.turns;
        w->since = now;
        w->asked = 0;
    }
    uint64_t still = now - w->since, late = owners.busy > still ? owners.busy : still;
    int64_t open = atomic_load_explicit(&p->record->open, memory_order_relaxed);
    bool counted = open >= 0 && owners.open >= 0;
    int64_t mine = counted ? open + own_queue(p) : 0, theirs = counted ? owners.open + queue : 0;
    if (counted && far_below(mine, theirs))
        return true;
    if (!(late > LATE || (late > TARDY && theirs > mine) || sleeps(w, &owners)))
        return false;
    atomic_fetch_add_explicit(&p->record->late, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&p->table->page->slot[slot].helped, 1, memory_order_relaxed);
    /* An owner without a part never turns, so it would not come back. */
    if (owners.one && table_steer_away(p->table, (int)slot) && atomic_load(&owners.one->busy) == 0)
        /* The owner waits, and may have looked too early: nothing else may wake it. */
        table_ring(p->table);
    return true;
}

bool part_would_take(struct fs_part *p, uint32_t slot)
{
    int64_t queue = queue_length(p->table->fds[slot]);
    return queue > 0 && is_to_take(p, slot, queue);
}

/* Have a sibling's queue looked at again, `looks` times, the next time after `ms`; 0: not at all.
 * wakes: a connection that comes there meanwhile wakes us. */
static void look_again(struct fs_part *p, uint32_t slot, uint8_t looks, unsigned ms, bool wakes)
{
    struct watched *w = &p->watched[slot];
    p->left_alone += (uint32_t)(looks > 0) - (uint32_t)(w->looks > 0);
    w->looks = looks;
    w->due = looks ? clock_ns() + ms * NS_A_MS : 0;
    if (w->muted == wakes)
        p->poller->arm(p->context, p->table->fds[slot], (int)slot, wakes);
    w->muted = !wakes;
}

bool part_compare(struct fs_part *p, uint32_t slot)
{
    struct watched *w = &p->watched[slot];
    int64_t queue = queue_length(p->table->fds[slot]);
    bool took = w->took;
    w->took = queue > 0 && is_to_take(p, slot, queue);
    /* After a take, too, there is a look until the queue was seen empty: the edge is gone, and the
     * caller may take only one. */
    uint8_t looks = queue > 0 ? AT_WAITING : took ? 0 : w->looks ? w->looks - 1 : AT_EMPTY;
    look_again(p, slot, looks, look_ms[looks], w->took || looks == 0);
    if (queue <= 0)
        w->since = 0;
    return w->took;
}

int fs_part_look_due(const struct fs_part *p)
{
    uint64_t first = UINT64_MAX, now = clock_ns();
    uint32_t left = p->left_alone;
    for (uint32_t i = 0; left > 0 && i < p->table->slots; i++) {
        const struct watched *w = &p->watched[i];
        left -= w->looks > 0;
        if (w->looks > 0 && w->due < first)
            first = w->due;
    }
    if (first == UINT64_MAX)
        return -1;
    return first <= now ? 0 : (int)((first - now + NS_A_MS - 1) / NS_A_MS);
}

uint32_t fs_part_look(struct fs_part *p, int *out)
{
    uint64_t now = clock_ns();
    uint32_t count = 0, left = p->left_alone;
    for (uint32_t i = 0; left > 0 && i < p->table->slots; i++) {
        const struct watched *w = &p->watched[i];
        left -= w->looks > 0;
        /* A timer of milliseconds may be a little early. */
        if (w->looks > 0 && w->due < now + NS_A_MS && part_compare(p, i))
            out[count++] = (int)i;
    }
    return count;
}
