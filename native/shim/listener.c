/* SPDX-License-Identifier: MIT */
#include "listener.h"
#include "fdtable.h"
#include "log.h"
#include "pollset.h"
#include "real.h"
#include "state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- look-up ---- */

struct listener *listener_of(int fd)
{
    return fdtable_get(fd, FD_LISTENER);
}

struct listener *listener_check(int fd)
{
    struct listener *l = listener_of(fd);
    return l && state_mine() && l->cookie == fs_socket_cookie(fd) ? l : NULL;
}

void listener_name(int fd, char *out, size_t size, unsigned *port)
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
 * about to use the closed descriptor. The memory stays until no thread can be that late. */
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
        /* The number is another file's now, so we close none of the table's descriptors. */
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
    l->cookie = fs_socket_cookie(fd);
    listener_name(fd, l->name, sizeof l->name, &port);
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
