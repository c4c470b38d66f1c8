/* SPDX-License-Identifier: MIT
 *
 * A listen table in use: looking at it, accepting from it, ending it. make.c makes it, claims.c
 * knows the owners.
 */
#include "clock.h"
#include "drain.h"
#include "ledger.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SAMPLED = 32 }; /* one in this many connections is asked how long it waited: 0.4 us each */

int table_place(const struct fs_table *t, int fd)
{
    int placed = fd < 0 || fd >= t->lowest_fd ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, t->lowest_fd);
    if (placed < 0)
        return fd;
    close(fd);
    return placed;
}

/* ---- looking ---- */

int fs_table_fd(const struct fs_table *t, int slot)
{
    if (t->read_only)
        return -EROFS;
    if (slot == FS_GLOBAL)
        return atomic_load_explicit(&t->global, memory_order_relaxed);
    if (!table_slot(t, slot))
        return -EINVAL;
    return t->shared ? t->global : t->fds[slot];
}

int fs_table_page_fd(const struct fs_table *t)
{
    return t->memfd;
}

int fs_table_bell(const struct fs_table *t)
{
    return t->bell;
}

void fs_table_set_global(struct fs_table *t, int fd)
{
    atomic_store(&t->global, fd);
}

static enum fs_steer wanted(const struct page *page)
{
    int32_t value = atomic_load(&page->wanted);
    return value >= 0 && value <= FS_STEER_SPREAD ? (enum fs_steer)value : FS_STEER_SPREAD;
}

void fs_table_read(const struct fs_table *t, struct fs_table_info *info)
{
    const struct page *page = t->page;
    const struct ledger *ledger = ledger_of(t);
    *info = (struct fs_table_info){
        .slots = t->slots,
        .shared = t->shared,
        .stopping = ledger ? ledger->stopping : flag_read(&page->stopping),
        .frozen = flag_read(&page->frozen),
        .wanted = ledger ? ledger->wanted : wanted(page),
        .steer = table_steering(t),
        .generation = atomic_load(&page->generation),
        .others = atomic_load(&page->others),
        .restored = ledger ? ledger->restored : 0,
        .cookie = t->cookie,
        .address = t->address,
        .address_len = t->address_len,
    };
    if (ledger)
        memcpy(info->why, ledger->why, sizeof info->why);
    else
        page_read_why(page, info->why);
}

uint32_t fs_table_slots(const struct fs_table *t)
{
    return t->shared ? 0 : t->slots;
}

bool fs_table_refused(const struct fs_table *t)
{
    return t->refused;
}

bool fs_table_claimed(const struct fs_table *t)
{
    return atomic_load_explicit(&t->page->generation, memory_order_relaxed) != 0;
}

bool fs_table_frozen(const struct fs_table *t)
{
    return flag_read(&t->page->frozen);
}

/* Any process may have written these counters: they are added up only if they are valid. */
static void read_parts(const struct fs_table *t, int slot, struct fs_slot_info *info)
{
    const struct part_record *records = page_parts(&t->map);
    uint64_t now = clock_ns();
    info->open = FS_UNCOUNTED;
    for (uint32_t i = 0; i < t->map.parts; i++) {
        const struct part_record *r = &records[i];
        if (atomic_load(&r->pid) <= 0 || atomic_load(&r->slot) != slot)
            continue;
        int32_t open = atomic_load(&r->open);
        uint64_t busy = atomic_load(&r->busy), began = atomic_load(&r->began);
        uint64_t worked = atomic_load(&r->worked) + (busy && busy < now ? now - busy : 0);
        if (open >= 0)
            info->open = open + (info->open > 0 ? info->open : 0);
        info->late += atomic_load(&r->late);
        if (began < now && worked <= now - began && atomic_load(&r->turns) > 1) {
            info->worked += worked;
            info->lived += now - began;
        }
    }
}

int fs_table_read_slot(const struct fs_table *t, int slot, struct fs_slot_info *info)
{
    const struct slot_record *s = table_slot(t, slot);
    if (!s)
        return -EINVAL;
    int cpu = atomic_load(&s->cpu);
    *info = (struct fs_slot_info){
        .pid = atomic_load(&s->pid),
        .tid = atomic_load(&s->tid),
        .start = atomic_load(&s->start),
        .cpu = cpu >= -1 && cpu < CPU_SETSIZE ? cpu : -1,
        .live = flag_read(&s->live),
        .alive = slot_alive(s),
        .claims = atomic_load(&s->claims),
        .epoch = atomic_load(&s->epoch),
        .cookie = atomic_load(&s->cookie),
        .own = atomic_load(&s->own),
        .stolen = atomic_load(&s->stolen),
        .orphan = atomic_load(&s->orphan),
        .global = atomic_load(&s->global),
        .arrived = atomic_load(&s->arrived),
        .helped = atomic_load(&s->helped),
    };
    info->used = info->claims > 0;
    read_parts(t, slot, info);
    return 0;
}

int fs_table_read_waits(const struct fs_table *t, int slot, struct fs_histogram *waits)
{
    if (!table_slot(t, slot))
        return -EINVAL;
    fs_histogram_read(page_waits(&t->map, (uint32_t)slot), waits);
    return 0;
}

int fs_table_core(const struct fs_table *t, int slot)
{
    if (!table_slot(t, slot))
        return -1;
    return t->ledger ? t->ledger->slot[slot].cpu : atomic_load(&t->page->slot[slot].cpu);
}

/* ---- connections ---- */

void fs_table_set_channel(struct fs_table *t, struct fs_channel *channel)
{
    t->channel = channel;
}

static _Atomic(uint64_t) *counter(struct fs_table *t, struct slot_record *me, int slot, int source)
{
    if (!me)
        return &t->page->others;
    if (source == FS_GLOBAL || t->shared)
        return &me->global;
    if (source == slot)
        return &me->own;
    return atomic_load(&t->page->slot[source].pid) ? &me->stolen : &me->orphan;
}

/* tcpi_last_data_recv: ms since the connection's last bytes came, or since it was established
 * (tcp_get_info). */
static void sample_wait(struct fs_table *t, int slot, int connection)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(connection, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
        fs_histogram_add(page_waits(&t->map, (uint32_t)slot),
                         (uint64_t)info.tcpi_last_data_recv * NS_A_MS);
}

int fs_table_accept(struct fs_table *t, int slot, int source, struct sockaddr *address,
                    socklen_t *length, int flags)
{
    struct slot_record *me = table_slot(t, slot);
    int fd = fs_table_fd(t, source);
    if (fd < 0 || (!me && slot != FS_GLOBAL))
        return fd == -1 ? -EBADF : fd < 0 ? fd : -EINVAL; /* -1: closed meanwhile */
    /* Count first, and take the count back if there was no connection: a process killed in between
     * leaves the count one too high, never too low, so no lost connection can hide in it. */
    _Atomic(uint64_t) *count = counter(t, me, slot, source);
    uint64_t before = atomic_fetch_add(count, 1);
    int connection = t->channel ? fs_channel_accept(t->channel, fd, address, length, flags)
                                : accept4(fd, address, length, flags);
    if (connection < 0) {
        int rc = t->channel ? connection : -errno;
        atomic_fetch_sub(count, 1);
        return rc;
    }
    if (source != FS_GLOBAL)
        atomic_fetch_add(&t->page->slot[source].arrived, 1);
    if (me && !t->timed && before % SAMPLED == 0)
        sample_wait(t, slot, connection);
    return connection;
}

int fs_table_copy_options(struct fs_table *t)
{
    if (t->read_only)
        return -EROFS;
    for (uint32_t i = t->own_from; i < t->made; i++) {
        int rc = options_copy(t->global, t->fds[i]);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- stopping ---- */

int fs_table_stop_arrivals(struct fs_table *t)
{
    if (t->read_only)
        return -EROFS;
    struct ledger *ledger = ledger_of(t);
    if (ledger)
        ledger->stopping = true;
    flag_write(&t->page->stopping, true);
    if (t->address.ss_family != AF_INET && t->address.ss_family != AF_INET6)
        return 0; /* a unix connect(2) is complete at once: nothing is ever in progress */
    int rc = drain_stop_arrivals(t->global);
    for (uint32_t i = t->own_from; i < t->made; i++) {
        int next = drain_stop_arrivals(t->fds[i]);
        rc = rc ? rc : next; /* one that fails does not keep the others from stopping */
    }
    return rc;
}

int fs_table_shutdown(struct fs_table *t)
{
    if (t->read_only)
        return -EROFS;
    /* Shut down only once: on a socket that does not listen any more, it would leave a mark that
     * connections inherit if the socket listens again (inet_shutdown). */
    if (shutdown(t->global, SHUT_RDWR) < 0)
        return -errno;
    for (uint32_t i = t->own_from; i < t->made; i++)
        shutdown(t->fds[i], SHUT_RDWR);
    return 0;
}

int fs_table_queued(const struct fs_table *t, int slot)
{
    int fd = fs_table_fd(t, slot);
    return fd < 0 ? fd : drain_queued(fd);
}

int fs_table_half_open(const struct fs_table *t)
{
    return t->read_only ? -EROFS : drain_half_open(t->global);
}
