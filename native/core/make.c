/* SPDX-License-Identifier: MIT
 *
 * Making a listen table, receiving one, and letting it go.
 *
 * Facts about a reuseport group (net/core/sock_reuseport.c), which everything here leans on:
 * - a member's number is the order in which it began to listen; when one closes, the last takes
 *   its place. So slots are made at once, stay open as long as the table, and never renumber;
 * - the program is the group's, may be attached again through any listening member, and needs no
 *   privilege;
 * - siblings need the same uid and the right to the port: so slots are made where listen() is
 *   called, before anybody drops privileges.
 */
#include "options.h"
#include "steer.h"
#include "table.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

uint64_t table_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof cookie;
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0 ? 0 : cookie;
}

int table_place(const struct fs_table *t, int fd)
{
    int placed = fd < 0 || fd >= t->lowest_fd ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, t->lowest_fd);
    if (placed < 0)
        return fd;
    close(fd);
    return placed;
}

static int slot_open(const struct fs_table *t, const struct fs_table_options *o)
{
    int on = 1;
    const struct page *page = t->page;
    const struct sockaddr *address = (const struct sockaddr *)&page->address;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0)
        return -errno;
    fd = table_place(t, fd);
    int rc = options_copy_before_bind(t->global, fd);
    if (!rc && (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ||
                bind(fd, address, page->address_len) < 0))
        rc = -errno;
    if (!rc)
        rc = options_copy(t->global, fd);
    if (!rc && listen(fd, o->backlog) < 0)
        rc = -errno;
    if (rc) {
        close(fd);
        return rc;
    }
    return fd;
}

static void close_slots(struct fs_table *t)
{
    for (uint32_t i = t->own_from; i < t->made; i++) {
        close(t->fds[i]);
        t->fds[i] = -1;
    }
}

static int make_slots(struct fs_table *t, const struct fs_table_options *o)
{
    struct page *page = t->page;
    for (uint32_t i = t->own_from; i < page->slots; i++) {
        int fd = slot_open(t, o);
        if (fd < 0)
            return fd;
        t->fds[i] = fd;
        page->slot[i].cookie = table_cookie(fd);
        page->slot[i].fd = fd;
        t->made = i + 1;
        /* From the first sibling on the kernel would hash over all: nothing may stray. */
        int rc = table_steer(t);
        if (rc)
            return rc;
    }
    return 0;
}

/* The i-th core that this process may run on, again from the first when there are more slots. */
static void assign_cores(struct page *page)
{
    cpu_set_t allowed;
    int cores[CPU_SETSIZE], count = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET(cpu, &allowed))
                cores[count++] = cpu;
    for (uint32_t i = 0; i < page->slots; i++)
        atomic_store(&page->slot[i].cpu, count ? cores[i % (uint32_t)count] : -1);
}

static int socket_option(int fd, int name)
{
    int value = 0;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -errno : value;
}

static int set_reuseport(int fd, int on)
{
    return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ? -errno : 0;
}

/* The group and its program, with the global listener alone, before it listens: a program can be
 * attached to a socket with SO_REUSEPORT that is not hashed yet (reuseport_attach_prog), so no
 * connection ever goes anywhere else. */
static int group_ahead(struct fs_table *t)
{
    struct sock_filter program[STEER_PROGRAM_MAX(0)];
    int rc = set_reuseport(t->global, 1);
    return rc ? rc
              : steer_attach(t->global, program, steer_program(program, FS_STEER_SPREAD, NULL, 0));
}

/* Whether nobody listens at the global listener's address: a bind(2) with SO_REUSEADDR alone is
 * refused exactly beside a socket that listens, or that is without the option, which ours then
 * must not be (inet_bind_conflict, net/ipv4/inet_connection_sock.c). */
static bool nobody_listens(int global)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    int on = 1, reuse = socket_option(global, SO_REUSEADDR);
    if (getsockname(global, (struct sockaddr *)&address, &len) < 0)
        return false;
    int probe = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    setsockopt(global, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    bool nobody = probe >= 0 && options_copy_before_bind(global, probe) == 0 &&
                  bind(probe, (struct sockaddr *)&address, len) == 0;
    setsockopt(global, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    if (probe >= 0)
        close(probe);
    return nobody;
}

/* Listen, in a group of our own. A program that set SO_REUSEPORT itself may be in a group with
 * others already, where our slots would get other numbers than we think: *alone tells. To one that
 * did not set it, the kernel says EADDRINUSE as it would without us: it listens without. */
static int listen_global(struct fs_table *t, int backlog, bool asked, bool *alone)
{
    *alone = !asked || nobody_listens(t->global);
    int rc = *alone ? group_ahead(t) : 0;
    if (!rc && !asked)
        rc = set_reuseport(t->global, 0);
    if (!rc && listen(t->global, backlog) < 0)
        rc = -errno;
    if (!rc && !asked)
        rc = set_reuseport(t->global, 1);
    return rc;
}

/* Put slots beside the listening global socket, or leave it alone and say why. `late`: there was
 * no group yet while it listened. */
static int add_slots(struct fs_table *t, const struct fs_table_options *o, bool late, int reuseport)
{
    struct page *page = t->page;
    int rc = set_reuseport(t->global, 1);
    if (!rc)
        rc = make_slots(t, o);
    if (rc) {
        close_slots(t);
        t->made = t->own_from;
        if (!reuseport)
            set_reuseport(t->global, 0);
        snprintf(page->why, FS_WHY_MAX, "%sno slots could be made: %s",
                 late ? "it was listening already and " : "", strerror(-rc));
        return 1;
    }
    /* Before the first sibling there was no group to steer: a connection may have strayed into a
     * slot that nobody claims. Counted as used, it is looked after like any orphan. */
    for (uint32_t i = 0; late && i < page->slots; i++)
        atomic_store(&page->slot[i].claims, 1);
    return 0;
}

/* 0, or 1 if the listener can only be shared, with why. */
static int convert(struct fs_table *t, const struct fs_table_options *o, bool listening)
{
    struct page *page = t->page;
    int reuseport = socket_option(t->global, SO_REUSEPORT);
    bool alone = reuseport == 0;
    if (!listening) {
        int rc = listen_global(t, o->backlog, reuseport > 0, &alone);
        if (rc) {
            set_reuseport(t->global, reuseport);
            return rc;
        }
    }
    if (!alone) {
        snprintf(page->why, FS_WHY_MAX, "it may be one of several with SO_REUSEPORT");
        return 1;
    }
    /* Only now: listen(2) binds what was not bound. */
    page->address_len = sizeof page->address;
    if (getsockname(t->global, (struct sockaddr *)&page->address, &page->address_len) < 0)
        return -errno;
    return add_slots(t, o, listening, reuseport);
}

/* Where the global listener stands: slot 0 itself, or before all slots. Slots that it takes. */
static uint32_t place_global(struct fs_table *t)
{
    t->first_member = t->page->first_is_slot ? 0 : 1;
    if (t->page->first_is_slot)
        t->fds[0] = t->global;
    return t->page->first_is_slot ? 1 : 0;
}

int fs_table_create(struct fs_table **out, int fd, const struct fs_table_options *o)
{
    if (o->slots > FS_SLOTS_MAX || o->records > FS_SLOTS_MAX ||
        (unsigned)o->steer > FS_STEER_SPREAD)
        return -EINVAL;
    int listening = socket_option(fd, SO_ACCEPTCONN);
    int domain = socket_option(fd, SO_DOMAIN), protocol = socket_option(fd, SO_PROTOCOL);
    if (listening < 0 || domain < 0)
        return listening < 0 ? listening : domain;
    bool tcp = (domain == AF_INET || domain == AF_INET6) && protocol == IPPROTO_TCP;
    uint32_t slots = tcp ? o->slots : 0;
    uint32_t records = slots ? slots : o->records;

    struct fs_table *t = calloc(1, sizeof *t + records * sizeof *t->fds);
    if (!t)
        return -ENOMEM;
    int rc = page_create(&t->page, &t->memfd, records);
    if (rc) {
        free(t);
        return rc;
    }
    struct page *page = t->page;
    t->global = fd;
    t->lowest_fd = o->lowest_fd;
    page->cookie = table_cookie(fd);
    t->memfd = table_place(t, t->memfd);
    t->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (t->bell < 0)
        rc = -errno;
    page->bell = t->bell = table_place(t, t->bell);
    for (uint32_t i = 0; i < records; i++)
        t->fds[i] = -1;
    page->shared = slots == 0;
    page->address_len = sizeof page->address;
    if (!rc && getsockname(fd, (struct sockaddr *)&page->address, &page->address_len) < 0)
        rc = -errno;
    assign_cores(page);
    if (!rc && slots) {
        page->first_is_slot = o->flags & FS_FIRST_IS_SLOT;
        t->own_from = t->made = place_global(t);
        if (page->first_is_slot)
            page->slot[0].cookie = page->cookie;
        table_choose_steering(t, o->steer);
        rc = convert(t, o, listening);
        if (rc == 1) {
            page->shared = true;
            for (uint32_t i = 0; i < records; i++)
                t->fds[i] = -1;
            rc = 0;
        }
    } else if (!rc) {
        snprintf(page->why, sizeof page->why, tcp ? "no slots were asked for" : "not a TCP socket");
        if (!listening && listen(fd, o->backlog) < 0)
            rc = -errno;
    }
    if (rc) {
        fs_table_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

int fs_table_attach(struct fs_table **out, int memfd)
{
    struct page *page;
    int rc = page_attach(&page, memfd, false);
    if (rc)
        return rc;
    struct fs_table *t = calloc(1, sizeof *t);
    if (!t) {
        page_unmap(page);
        return -ENOMEM;
    }
    t->page = page;
    t->memfd = t->global = t->bell = -1;
    t->read_only = true;
    *out = t;
    return 0;
}

int fs_table_adopt(struct fs_table **out, int memfd, int bell, int global, const int *slots,
                   uint32_t count)
{
    struct page *page;
    int rc = page_attach(&page, memfd, true);
    if (rc)
        return rc;
    struct fs_table *t = NULL;
    if (count != (page->shared ? 0 : page->slots))
        rc = -EINVAL;
    else if (!(t = calloc(1, sizeof *t + page->slots * sizeof *t->fds)))
        rc = -ENOMEM;
    if (rc) {
        page_unmap(page);
        return rc;
    }
    t->page = page;
    t->memfd = memfd;
    t->lowest_fd = memfd; /* what is made later belongs beside what was received */
    t->bell = bell;
    t->global = global;
    for (uint32_t i = 0; i < page->slots; i++)
        t->fds[i] = i < count ? slots[i] : -1;
    t->own_from = count ? place_global(t) : 0;
    t->made = count;
    *out = t;
    return 0;
}

void fs_table_close(struct fs_table *t)
{
    close_slots(t);
    t->made = t->own_from;
    if (t->memfd >= 0)
        close(t->memfd);
    if (t->bell >= 0)
        close(t->bell);
    t->memfd = t->bell = -1;
}

void fs_table_free(struct fs_table *t)
{
    if (!t)
        return;
    fs_table_close(t);
    page_unmap(t->page);
    free(t);
}
