/* SPDX-License-Identifier: MIT */
#include "listener.h"
#include "fdtable.h"
#include "log.h"
#include "pass.h"
#include "pollset.h"
#include "real.h"
#include "state.h"
#include "wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Descriptors of ours begin here: above what a small program uses, below what makes the kernel's
 * table of a process large (it is copied by every fork). */
enum { LOWEST_FD = 1024 };

/* ---- knowing ---- */

struct listener *listener_of(int fd)
{
    return fdtable_get(fd, FD_LISTENER);
}

uint64_t listener_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t length = sizeof cookie;
    return real_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0 ? 0 : cookie;
}

struct listener *listener_check(int fd)
{
    struct listener *l = listener_of(fd);
    return l && state_mine() && l->cookie == listener_cookie(fd) ? l : NULL;
}

bool listener_claimed(const struct listener *l)
{
    struct fs_table *table = atomic_load_explicit(&l->table, memory_order_acquire);
    return table && fs_table_claimed(table);
}

static int option(int fd, int level, int name)
{
    int value = 0;
    socklen_t length = sizeof value;
    return real_getsockopt(fd, level, name, &value, &length) < 0 ? -1 : value;
}

static void name_of(int fd, char *out, size_t size, unsigned *port)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    char host[INET6_ADDRSTRLEN] = "?";
    getsockname(fd, &address.any, &length);
    bool v6 = address.any.sa_family == AF_INET6;
    inet_ntop(address.any.sa_family, v6 ? (void *)&address.v6.sin6_addr : &address.v4.sin_addr,
              host, sizeof host);
    *port = ntohs(v6 ? address.v6.sin6_port : address.v4.sin_port);
    snprintf(out, size, v6 ? "[%s]:%u" : "%s:%u", host, *port);
}

/* ---- tables that are not in use any more ---- */

/* Another thread may be about to use the table of a listener that was just closed, as it may be
 * about to use the closed descriptor. The memory stays until nobody can be that late. */
static struct grave {
    struct fs_table *table;
    time_t since;
    struct grave *next;
} *graves;

enum { REST = 10 /* seconds */ };

static time_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

static void free_old_graves(void)
{
    for (struct grave **at = &graves, *old; (old = *at);) {
        if (now() - old->since < REST) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        fs_table_free(old->table);
        free(old);
    }
}

/* close(2) may be called by a signal handler: nothing is allocated or freed here. */
static void bury(struct grave *grave, struct fs_table *table)
{
    fs_table_close(table);
    *grave = (struct grave){.table = table, .since = now(), .next = graves};
    graves = grave;
}

static void mark_hidden(struct fs_table *table, enum fd_kind kind)
{
    struct fs_table_info info;
    fs_table_read(table, &info);
    for (uint32_t i = 0; i < info.slots; i++)
        fdtable_set(fs_table_fd(table, (int)i), kind, NULL);
    fdtable_set(fs_table_page_fd(table), kind, NULL);
    fdtable_set(fs_table_bell(table), kind, NULL);
}

static void forget_descriptors(struct listener *l)
{
    for (int fd = -1; (fd = fdtable_next((unsigned)fd + 1, UINT_MAX)) >= 0;)
        if (listener_of(fd) == l)
            fdtable_set(fd, FD_PLAIN, NULL);
    l->references = 0;
}

void listener_dissolve(struct listener *l)
{
    struct fs_table *table = atomic_exchange(&l->table, NULL);
    if (!table)
        return;
    pollset_listener_left(l);
    mark_hidden(table, FD_PLAIN);
    bury(l->grave, table);
    forget_descriptors(l);
}

static bool has_hidden(struct fs_table *table, int hidden)
{
    bool has = fs_table_page_fd(table) == hidden || fs_table_bell(table) == hidden;
    for (uint32_t i = 0; i < fs_table_slots(table); i++)
        has = has || fs_table_fd(table, (int)i) == hidden;
    return has;
}

void listener_lose_hidden(int hidden)
{
    fdtable_set(hidden, FD_PLAIN, NULL);
    for (struct listener *l = state.listeners; l; l = l->next) {
        struct fs_table *table = atomic_load(&l->table);
        if (!table || !has_hidden(table, hidden))
            continue;
        log_line(LOG_ERROR, "%s: descriptor %d was closed: no local listeners any more", l->name,
                 hidden);
        /* The number is another's now, so none of the table's is closed by us. */
        atomic_store(&l->table, NULL);
        pollset_listener_left(l);
        mark_hidden(table, FD_PLAIN);
        forget_descriptors(l);
    }
}

void listener_dissolve_hidden(int hidden)
{
    for (struct listener *l = state.listeners; l; l = l->next) {
        struct fs_table *table = atomic_load(&l->table);
        if (!table || !has_hidden(table, hidden))
            continue;
        log_line(LOG_ERROR, "%s: the program wants descriptor %d: no local listeners any more",
                 l->name, hidden);
        listener_dissolve(l);
    }
}

/* ---- entering and leaving ---- */

int listener_enter(int fd, struct fs_table *table, bool asked_reuseport)
{
    struct listener *l = state.listeners;
    unsigned port;
    struct grave *grave = malloc(sizeof *grave);
    if (!grave)
        return -ENOMEM;
    free_old_graves();
    while (l && atomic_load(&l->table))
        l = l->next;
    if (!l) {
        l = calloc(1, sizeof *l);
        if (!l) {
            free(grave);
            return -ENOMEM;
        }
        l->next = state.listeners;
        state.listeners = l;
    }
    l->references = 1;
    l->asked_reuseport = asked_reuseport;
    l->cookie = listener_cookie(fd);
    name_of(fd, l->name, sizeof l->name, &port);
    int rc = fdtable_set(fd, FD_LISTENER, l);
    if (rc) {
        free(grave);
        return rc;
    }
    l->grave = grave;
    mark_hidden(table, FD_HIDDEN);
    atomic_store_explicit(&l->table, table, memory_order_release);
    return 0;
}

void listener_duplicate(int fd, int to)
{
    struct listener *l = listener_of(fd);
    if (l && fdtable_set(to, FD_LISTENER, l) == 0)
        l->references++;
}

void listener_leave(int fd)
{
    struct listener *l = listener_of(fd);
    fdtable_set(fd, FD_PLAIN, NULL);
    if (!l)
        return;
    if (--l->references == 0) {
        listener_dissolve(l);
        return;
    }
    struct fs_table *table = atomic_load(&l->table);
    if (!table || fs_table_fd(table, FS_GLOBAL) != fd)
        return;
    for (int other = -1; (other = fdtable_next((unsigned)other + 1, UINT_MAX)) >= 0;)
        if (listener_of(other) == l) {
            fs_table_set_global(table, other);
            return;
        }
}

/* ---- listen(2) ---- */

static bool wants_table(int fd)
{
    char name[64];
    unsigned port = 0;
    int family = option(fd, SOL_SOCKET, SO_DOMAIN);
    if ((family != AF_INET && family != AF_INET6) ||
        option(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP)
        return false;
    name_of(fd, name, sizeof name, &port);
    return settings_port(&state.settings, port);
}

static uint32_t slots_wanted(void)
{
    cpu_set_t allowed;
    int cores = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    uint32_t slots = cores > 4 ? 2 * (uint32_t)cores : 8; /* two generations live side by side */
    slots = state.settings.slots ? state.settings.slots : slots;
    return slots < FS_SLOTS_MAX ? slots : FS_SLOTS_MAX;
}

/* Numbers for `count` descriptors that the program does not miss: beyond its soft limit where the
 * hard one allows it, for the limit is looked at only when a number is given out; else the last
 * ones. `before` is to be set again, if it was changed. Returns the lowest. */
static int make_room(uint32_t count, struct rlimit *before)
{
    struct rlimit limit;
    rlim_t wanted = LOWEST_FD + count;
    for (struct listener *l = state.listeners; l; l = l->next)
        wanted += atomic_load(&l->table) ? count : 0;
    before->rlim_max = 0;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return LOWEST_FD;
    *before = limit;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        limit.rlim_cur = before->rlim_cur;
    if (limit.rlim_cur == wanted)
        return LOWEST_FD;
    rlim_t taken = wanted - LOWEST_FD;
    return limit.rlim_cur > taken ? (int)(limit.rlim_cur - taken) : 0;
}

static int make_table(struct fs_table **out, int fd, int backlog)
{
    struct fs_table_options options = {
        .slots = slots_wanted(), .backlog = backlog, .steer = state.settings.steer};
    struct rlimit before;
    options.lowest_fd = make_room(options.slots + 4, &before);
    int rc = fs_table_create(out, fd, &options);
    if (before.rlim_max)
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
    name_of(fd, name, sizeof name, &port);
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
    if (state.device) /* the rest is done in the kernel, by what poll and accept find there */
        return fs_channel_listen(state.device, fd, backlog) ? 1 : 0;
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

int shim_listen(int fd, int backlog)
{
    state_start();
    struct listener *l = listener_check(fd);
    if (l) {
        sigset_t saved;
        state_lock(&saved);
        int rc = fs_table_relisten(atomic_load(&l->table), backlog);
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
        name_of(fd, what, sizeof what, &port);
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

/* ---- what is done to all members ---- */

int shim_shutdown(int fd, int how)
{
    struct listener *l = listener_check(fd);
    struct fs_table *table = l ? atomic_load(&l->table) : NULL;
    /* inet_shutdown (net/ipv4/af_inet.c): only the receiving side ends a listener, but wholly. */
    if (!table || (how != SHUT_RD && how != SHUT_RDWR))
        return real_shutdown(fd, how);
    int rc = fs_table_shutdown(table);
    if (rc)
        errno = -rc;
    return rc ? -1 : 0;
}

int shim_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    struct listener *l = listener_check(fd);
    struct fs_table *table = l ? atomic_load(&l->table) : NULL;
    if (!table)
        return real_setsockopt(fd, level, name, value, length);
    if (level == SOL_SOCKET && name == SO_REUSEPORT && length >= sizeof(int)) {
        l->asked_reuseport = *(const int *)value != 0;
        return 0; /* it has to stay set */
    }
    int rc = real_setsockopt(fd, level, name, value, length);
    struct fs_table_info info;
    fs_table_read(table, &info);
    for (uint32_t i = 0; rc == 0 && i < info.slots; i++) {
        int error = errno;
        real_setsockopt(fs_table_fd(table, (int)i), level, name, value, length);
        errno = error;
    }
    return rc;
}

int shim_getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
    int rc = real_getsockopt(fd, level, name, value, length);
    struct listener *l = listener_of(fd);
    if (rc == 0 && l && level == SOL_SOCKET && name == SO_REUSEPORT && *length >= sizeof(int))
        *(int *)value = l->asked_reuseport;
    return rc;
}

/* ---- accept(2) ---- */

int shim_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    struct listener *l = listener_of(fd);
    struct fs_table *table = l ? atomic_load_explicit(&l->table, memory_order_acquire) : NULL;
    if (!table)
        return real_accept4(fd, address, length, flags);
    int rc;
    if (!fs_table_claimed(table) && wait_freezes(fd, table))
        /* As long as nobody has a slot all arrives there, and waiting may be left to the kernel. */
        rc = fs_table_accept(table, FS_GLOBAL, FS_GLOBAL, address, length, flags);
    else if (!pollset_accept(l, table, address, length, flags, &rc))
        rc = wait_accept(fd, address, length, flags);
    if (rc < 0) {
        errno = -rc;
        return -1;
    }
    return rc;
}
