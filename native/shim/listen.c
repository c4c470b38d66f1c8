/* SPDX-License-Identifier: MIT
 *
 * listen(2): which sockets get a table, with how many slots, and where their descriptors go.
 */
#include "fdtable.h"
#include "listener.h"
#include "log.h"
#include "pass.h"
#include "real.h"
#include "state.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* Descriptors of ours begin here: above what a small program uses, below what makes the kernel's
 * table of a process large (it is copied by every fork). */
enum { LOWEST_FD = 1024 };

static int option(int fd, int level, int name)
{
    int value = 0;
    socklen_t length = sizeof value;
    return real_getsockopt(fd, level, name, &value, &length) < 0 ? -1 : value;
}

static bool wants_table(int fd)
{
    char name[64];
    unsigned port = 0;
    int family = option(fd, SOL_SOCKET, SO_DOMAIN);
    if ((family != AF_INET && family != AF_INET6) ||
        option(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP)
        return false;
    listener_name(fd, name, sizeof name, &port);
    if (settings_port(&state.settings, port))
        return true;
    log_line(LOG_INFO, "%s: left alone: FSOCKET_PORTS does not name it", name);
    return false;
}

static uint32_t slots_wanted(void)
{
    cpu_set_t allowed;
    int cores = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    uint32_t slots = cores > 4 ? 2 * (uint32_t)cores : 8; /* two generations live side by side */
    slots = state.settings.slots ? state.settings.slots : slots;
    return slots < FS_SLOTS_MAX ? slots : FS_SLOTS_MAX;
}

/* Descriptors of ours beside the slots of a table: page, bell, and pidfds of workers to come. */
enum { BESIDE = 4 };

/* The limit is looked at only when a number is given out, so ours go beyond the program's soft
 * limit where the hard one allows it. Of the program's own numbers we take a quarter at most, and
 * fewer slots if that is not enough. Returns the lowest number, and the limit for now in `limit`;
 * -EMFILE if there is no room for two slots. */
static int make_room(uint32_t *slots, struct rlimit *limit)
{
    rlim_t ours = 0;
    for (struct listener *l = state.listeners; l; l = l->next) {
        struct fs_table *table = atomic_load(&l->table);
        ours += table ? fs_table_slots(table) + BESIDE : 0;
    }
    rlim_t room = limit->rlim_max / 4;
    if (limit->rlim_max > limit->rlim_cur)
        room += limit->rlim_max - limit->rlim_cur;
    if (room < ours + BESIDE + 2)
        return -EMFILE;
    if (*slots > room - ours - BESIDE)
        *slots = (uint32_t)(room - ours - BESIDE);
    ours += *slots + BESIDE;
    if (limit->rlim_cur < LOWEST_FD + ours)
        limit->rlim_cur = limit->rlim_max < LOWEST_FD + ours ? limit->rlim_max : LOWEST_FD + ours;
    return limit->rlim_cur < LOWEST_FD + ours ? (int)(limit->rlim_cur - ours) : LOWEST_FD;
}

static int make_table(struct fs_table **out, int fd, int backlog)
{
    struct fs_table_options options = {
        .slots = slots_wanted(), .backlog = backlog, .steer = state.settings.steer};
    struct rlimit before, now;
    if (getrlimit(RLIMIT_NOFILE, &before) < 0)
        return -errno;
    now = before;
    options.lowest_fd = make_room(&options.slots, &now);
    if (options.lowest_fd < 0)
        return options.lowest_fd;
    bool raised = now.rlim_cur != before.rlim_cur && setrlimit(RLIMIT_NOFILE, &now) == 0;
    int rc = fs_table_create(out, fd, &options);
    if (raised)
        setrlimit(RLIMIT_NOFILE, &before);
    return rc;
}

/* A second listen() of this program on one address: it shards the address itself, and the first
 * listener gives up its slots, before anybody was served through them. */
static void dissolve_same_address(const char *name)
{
    for (struct listener *l = state.listeners; l; l = l->next) {
        struct fs_table *table = atomic_load(&l->table);
        if (!table || strcmp(l->name, name) != 0)
            continue;
        if (!fs_table_claimed(table))
            fs_table_ungroup(table);
        log_line(LOG_INFO, "%s: the program has a listener of its own for each worker", name);
        listener_dissolve(l);
    }
}

/* The backend, when the first listener asks for it: true if there is any. */
static bool choose_backend(void)
{
    static bool chosen;
    struct fs_channel *channel;
    char why[FS_WHY_MAX] = "";
    if (chosen)
        return state.on;
    chosen = true;
    int rc =
        fs_channel_open(&channel, state.settings.backend, &(struct fs_channel_options){0}, why);
    if (rc) {
        log_line(LOG_ERROR, "%s; the program runs without local listeners", why);
        state.on = false;
    } else if (fs_channel_backend(channel) == FS_BACKEND_DEVICE) {
        log_line(LOG_INFO, "backend device: %s", why);
        state.device = channel;
    } else {
        log_line(LOG_INFO, "backend reuseport: %s", why);
        fs_channel_free(channel);
    }
    return state.on;
}

/* 0: it listens, with a table; 1: it is to listen as without us. */
static int begin(int fd, int backlog)
{
    char name[64];
    unsigned port;
    bool asked = option(fd, SOL_SOCKET, SO_REUSEPORT) > 0;
    if (!choose_backend())
        return 1;
    listener_name(fd, name, sizeof name, &port);
    if (option(fd, SOL_SOCKET, SO_ACCEPTCONN) > 0) {
        if (pass_take_over(fd))
            return 1;
        struct listener *l = listener_of(fd);
        return fs_table_relisten(atomic_load(&l->table), backlog) ? 1 : 0;
    }
    if (state.settings.defer_accept) {
        int one = 1;
        real_setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &one, sizeof one);
    }
    if (state.device) {
        int refused = fs_channel_listen(state.device, fd, backlog);
        if (!refused)
            refused = fs_channel_spawn_listen(state.device, fd, -1);
        if (refused) {
            /* An address in use is the program's own affair: listen() will tell it. */
            if (refused != -EADDRINUSE)
                log_line(LOG_ERROR, "%s: no local listeners: %s", name, strerror(-refused));
            return 1;
        }
        log_line(LOG_INFO, "%s: a local listener on each core that somebody waits on", name);
        return 0;
    }
    if (asked && port != 0)
        dissolve_same_address(name);
    struct fs_table *table;
    struct fs_table_info info;
    int rc = make_table(&table, fd, backlog);
    if (rc) {
        /* An address in use is the program's own affair: listen() will tell it. */
        if (rc != -EADDRINUSE)
            log_line(LOG_ERROR, "%s: no local listeners: %s", name, strerror(-rc));
        return 1;
    }
    fs_table_read(table, &info);
    if (info.shared || listener_enter(fd, table, asked)) {
        log_line(info.shared && asked ? LOG_INFO : LOG_ERROR, "%s: no local listeners: %s", name,
                 info.shared ? info.why : strerror(ENOMEM));
        bool sharded = info.shared && asked;
        fs_table_free(table);
        if (sharded && port != 0)
            pass_join(fd);
        return 0;
    }
    log_line(LOG_INFO, "%s: %u slots, steering %s: %s", listener_of(fd)->name, info.slots,
             info.steer == FS_STEER_CPU ? "cpu" : "spread", info.why);
    return 0;
}

bool listen_received(int fd)
{
    sigset_t saved;
    state_lock(&saved);
    bool device = choose_backend() && state.device;
    if (device)
        fs_channel_spawn_listen(state.device, fd, -1);
    state_unlock(&saved);
    return device;
}

int shim_listen(int fd, int backlog)
{
    state_start();
    struct listener *l = listener_check(fd);
    if (l) {
        sigset_t saved;
        state_lock(&saved);
        struct fs_table *table = atomic_load(&l->table); /* another thread may close it */
        int rc = table ? fs_table_relisten(table, backlog) : -EBADF;
        state_unlock(&saved);
        errno = rc ? -rc : errno;
        return rc ? -1 : 0;
    }
    if (!state.on || !state_mine() || !wants_table(fd))
        return real_listen(fd, backlog);
    sigset_t saved;
    int error = errno;
    state_lock(&saved);
    char what[64];
    unsigned port;
    if (option(fd, SOL_SOCKET, SO_REUSEPORT) > 0)
        listener_name(fd, what, sizeof what, &port);
    else
        snprintf(what, sizeof what, "%llx", (unsigned long long)listener_cookie(fd));
    int guard = pass_guard(what);
    int rc = begin(fd, backlog);
    if (guard >= 0)
        real_close(guard);
    state_unlock(&saved);
    errno = error;
    return rc ? real_listen(fd, backlog) : 0;
}
