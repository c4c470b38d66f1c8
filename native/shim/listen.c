/* SPDX-License-Identifier: MIT */
#include "listen.h"
#include "backend.h"
#include "listener.h"
#include "log.h"
#include "pass.h"
#include "real.h"
#include "state.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* Our descriptors begin here: above the numbers that a small program uses, but low enough to keep
 * the kernel's descriptor table of a process small (every fork copies it). */
enum { LOWEST_FD = 1024 };

/* A socket that is about to listen. */
struct socket {
    int fd;
    bool asked_reuseport; /* the program has set SO_REUSEPORT itself */
    unsigned port;        /* 0: not bound */
    char name[64];
};

static bool wants_table(struct socket *s)
{
    int family = fs_socket_option(s->fd, SOL_SOCKET, SO_DOMAIN);
    if ((family != AF_INET && family != AF_INET6) ||
        fs_socket_option(s->fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP)
        return false;
    s->asked_reuseport = fs_socket_option(s->fd, SOL_SOCKET, SO_REUSEPORT) > 0;
    listener_name(s->fd, s->name, sizeof s->name, &s->port);
    if (settings_port(&state.settings, s->port))
        return true;
    log_line(LOG_INFO, "%s: left alone: FSOCKET_PORTS does not name it", s->name);
    return false;
}

/* Our descriptors in addition to the slots of a table: page, bell, and pidfds of later workers. */
enum { BESIDE = 4 };

/* The kernel checks the limit only when it gives out a number, so our descriptors go beyond the
 * program's soft limit if the hard limit allows it. We take at most a quarter of the program's own
 * numbers, and make fewer slots if that is not enough. Returns the lowest number, and the temporary
 * limit in `limit`; -EMFILE if there is no room for two slots. */
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
    struct fs_table_options options = {.slots = state.settings.slots ? state.settings.slots
                                                                     : fs_default_slots(),
                                       .backlog = backlog,
                                       .steer = state.settings.steer};
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

/* A second listen() of this program on one address: the program shards the address itself, and the
 * first listener gives up its slots, before they have served any connection. */
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

/* 0: it listens, with a table; 1: it must listen as it would without us. */
static int begin(const struct socket *s, int backlog)
{
    int rc;
    if (!backend_choose())
        return 1;
    if (fs_socket_listens(s->fd)) {
        if (pass_take_over(s->fd))
            return 1;
        struct listener *l = listener_of(s->fd);
        return fs_table_relisten(atomic_load(&l->table), backlog) ? 1 : 0;
    }
    if (state.settings.defer_accept) {
        int one = 1;
        real_setsockopt(s->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &one, sizeof one);
    }
    if (backend_listen(s->fd, backlog, s->name, &rc))
        return rc ? 1 : 0;
    if (s->asked_reuseport && s->port != 0)
        dissolve_same_address(s->name);
    struct fs_table *table;
    struct fs_table_info info;
    rc = make_table(&table, s->fd, backlog);
    if (rc) {
        /* The program itself handles an address in use: listen() will report it. */
        if (rc != -EADDRINUSE)
            log_line(LOG_ERROR, "%s: no local listeners: %s", s->name, strerror(-rc));
        return 1;
    }
    fs_table_read(table, &info);
    if (info.shared || listener_enter(s->fd, table, s->asked_reuseport)) {
        bool sharded = info.shared && s->asked_reuseport && !fs_table_refused(table);
        log_line(sharded ? LOG_INFO : LOG_ERROR, "%s: no local listeners: %s", s->name,
                 info.shared ? info.why : strerror(ENOMEM));
        fs_table_free(table);
        if (sharded && s->port != 0)
            pass_join(s->fd);
        return 0;
    }
    log_line(LOG_INFO, "%s: %u slots, steering %s: %s", listener_of(s->fd)->name, info.slots,
             info.steer == FS_STEER_CPU ? "cpu" : "spread", info.why);
    return 0;
}

static int listen_again(struct listener *l, int backlog)
{
    sigset_t saved;
    state_lock(&saved);
    struct fs_table *table = atomic_load(&l->table); /* another thread may close it */
    int rc = table ? fs_table_relisten(table, backlog) : -EBADF;
    state_unlock(&saved);
    errno = rc ? -rc : errno;
    return rc ? -1 : 0;
}

int shim_listen(int fd, int backlog)
{
    state_start();
    struct listener *l = listener_check(fd);
    if (l)
        return listen_again(l, backlog);
    struct socket socket = {.fd = fd};
    if (!state.on || !state_mine() || !wants_table(&socket))
        return real_listen(fd, backlog);
    sigset_t saved;
    int error = errno;
    char what[64];
    state_lock(&saved);
    if (socket.asked_reuseport)
        snprintf(what, sizeof what, "%s", socket.name);
    else
        snprintf(what, sizeof what, "%llx", (unsigned long long)fs_socket_cookie(fd));
    int guard = pass_guard(what);
    int rc = begin(&socket, backlog);
    if (guard >= 0)
        real_close(guard);
    state_unlock(&saved);
    errno = error;
    return rc ? real_listen(fd, backlog) : 0;
}
