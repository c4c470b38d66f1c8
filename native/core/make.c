/* SPDX-License-Identifier: MIT
 *
 * Making a listen table, receiving one, and letting it go.
 *
 * Facts about a reuseport group (net/core/sock_reuseport.c), on which everything here relies:
 * - a member's number is the order in which it began to listen; when one closes, the last takes its
 *   place. So slots are made at once, stay open as long as the table, and never renumber;
 * - the program is the group's, may be attached again through any listening member, and needs no
 *   privilege;
 * - siblings need the same uid and the right to the port. So slots are made where listen() is
 *   called, before any process drops privileges.
 */
#include "ledger.h"
#include "options.h"
#include "socket.h"
#include "steer.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint32_t fs_default_slots(void)
{
    cpu_set_t allowed;
    uint32_t cores =
        sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? (uint32_t)CPU_COUNT(&allowed) : 1;
    uint32_t slots = cores > 4 ? 2 * cores : 8;
    return slots < FS_SLOTS_MAX ? slots : FS_SLOTS_MAX;
}

static int slot_open(const struct fs_table *t, const struct fs_table_options *o)
{
    int on = 1;
    const struct sockaddr *address = (const struct sockaddr *)&t->address;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0)
        return -errno;
    fd = table_place(t, fd);
    int rc = options_copy_before_bind(t->global, fd);
    if (!rc && (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ||
                bind(fd, address, t->address_len) < 0))
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

/* Handle the result of steering: if it was refused, the kernel's own hash may be good enough. */
static int steered(struct fs_table *t, const struct fs_table_options *o, int rc)
{
    if (!fs_is_refused(rc) || !(o->flags & FS_HASH_WILL_DO))
        return rc;
    table_leave_to_hash(t, rc);
    return 0;
}

static int make_slots(struct fs_table *t, const struct fs_table_options *o)
{
    struct page *page = t->page;
    for (uint32_t i = t->own_from; i < t->slots; i++) {
        int fd = slot_open(t, o);
        if (fd < 0)
            return fd;
        t->fds[i] = fd;
        atomic_store(&page->slot[i].cookie, fs_socket_cookie(fd));
        atomic_store(&page->slot[i].fd, fd);
        t->made = i + 1;
        /* From the first sibling on, the kernel would hash over all members: no connection may
         * stray. */
        int rc = steered(t, o, table_steer(t));
        if (rc)
            return rc;
    }
    return 0;
}

/* Each slot gets the next core that this process may run on, beginning again at the first when
 * there are more slots. */
static void assign_cores(struct fs_table *t)
{
    cpu_set_t allowed;
    int cores[CPU_SETSIZE], count = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET(cpu, &allowed))
                cores[count++] = cpu;
    for (uint32_t i = 0; i < t->slots; i++)
        atomic_store(&t->page->slot[i].cpu, count ? cores[i % (uint32_t)count] : -1);
}

static int set_reuseport(int fd, int on)
{
    return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ? -errno : 0;
}

/* Note that a call that the table needs is refused: the listener is then shared as it is. Returns
 * the errno. */
static int say_refused(struct fs_table *t, const char *call, int error)
{
    char why[FS_WHY_MAX];
    snprintf(why, sizeof why, "%s is refused: %s", call, strerror(error));
    page_say(t->page, why);
    t->refused = true;
    return error;
}

/* Make the group and its program, with the global listener alone, before it listens. A program can
 * be attached to a socket with SO_REUSEPORT that is not hashed yet (reuseport_attach_prog), so no
 * connection ever goes anywhere else. Positive: a call is refused. */
static int group_ahead(struct fs_table *t, const struct fs_table_options *o)
{
    struct sock_filter program[STEER_PROGRAM_MAX(0)];
    int rc = set_reuseport(t->global, 1);
    if (rc)
        return fs_is_refused(rc) ? say_refused(t, "SO_REUSEPORT", -rc) : rc;
    size_t length = steer_program(program, FS_STEER_SPREAD, NULL, 0);
    rc = steered(t, o, steer_attach(t->global, program, length));
    return fs_is_refused(rc) ? say_refused(t, "SO_ATTACH_REUSEPORT_CBPF", -rc) : rc;
}

/* Whether no other socket listens at the global listener's address. A bind(2) with SO_REUSEADDR
 * alone is refused exactly if another socket there listens, or lacks the option; so the global
 * listener gets the option for the probe (inet_bind_conflict, net/ipv4/inet_connection_sock.c).
 * -errno: it cannot be known. */
static int nobody_listens(int global)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    int on = 1, reuse = fs_socket_option(global, SOL_SOCKET, SO_REUSEADDR);
    if (reuse < 0)
        return reuse;
    if (getsockname(global, (struct sockaddr *)&address, &len) < 0 ||
        setsockopt(global, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return -errno;
    int probe = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    bool nobody = probe >= 0 && options_copy_before_bind(global, probe) == 0 &&
                  bind(probe, (struct sockaddr *)&address, len) == 0;
    setsockopt(global, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    if (probe >= 0)
        close(probe);
    return nobody;
}

/* Listen, in a group of our own. If the program set SO_REUSEPORT itself, its socket may be in a
 * group with others already, where our slots would get other numbers than we expect. *alone: the
 * group is ours. If the program did not set the option, the socket listens without it, so that the
 * kernel says EADDRINUSE as it would without us. Positive: the socket listens, but cannot have
 * slots, because a call is refused. */
static int listen_global(struct fs_table *t, const struct fs_table_options *o, bool asked,
                         bool *alone)
{
    int nobody = asked ? nobody_listens(t->global) : 1;
    *alone = nobody > 0;
    int refused = *alone ? group_ahead(t, o) : 0;
    if (refused < 0)
        return refused;
    if (nobody < 0)
        refused = say_refused(t, "SO_REUSEADDR", -nobody);
    int rc = asked ? 0 : set_reuseport(t->global, 0);
    if (rc && !refused)
        return rc;
    if (listen(t->global, o->backlog) < 0)
        return -errno;
    return refused || asked ? refused : set_reuseport(t->global, 1);
}

/* Add slots to the listening global socket, or leave it alone and say why. `late`: the socket
 * listened before there was a group. */
static int add_slots(struct fs_table *t, const struct fs_table_options *o, bool late, int reuseport)
{
    struct page *page = t->page;
    int rc = set_reuseport(t->global, 1);
    if (fs_is_refused(rc)) {
        say_refused(t, "SO_REUSEPORT", -rc);
        return 1;
    }
    if (!rc)
        rc = make_slots(t, o);
    if (rc) {
        close_slots(t);
        t->made = t->own_from;
        if (!reuseport)
            set_reuseport(t->global, 0);
        char why[FS_WHY_MAX];
        snprintf(why, sizeof why, "%sno slots could be made: %s",
                 late ? "the socket was listening already, and " : "", strerror(-rc));
        page_say(page, why);
        return 1;
    }
    /* Before the first sibling there was no group to steer: a connection may have strayed into a
     * slot that no thread claims. Where the kernel takes no program, any connection may stray. A
     * slot that counts as used is looked after like any orphan. */
    for (uint32_t i = 0; (late || t->hashed) && i < t->slots; i++)
        atomic_store(&page->slot[i].claims, 1);
    return 0;
}

static int read_address(struct fs_table *t)
{
    t->address = (struct sockaddr_storage){0};
    t->address_len = sizeof t->address;
    if (getsockname(t->global, (struct sockaddr *)&t->address, &t->address_len) < 0)
        return -errno;
    if (t->address_len > sizeof t->address)
        t->address_len = sizeof t->address;
    page_write_address(t->page, &t->address, t->address_len);
    return 0;
}

/* Returns 0 or -errno; 1 if the listener can only be shared, and the page says why. */
static int convert(struct fs_table *t, const struct fs_table_options *o, bool listening,
                   int reuseport)
{
    bool alone = reuseport == 0;
    if (!listening) {
        int rc = listen_global(t, o, reuseport > 0, &alone);
        if (rc < 0)
            set_reuseport(t->global, reuseport);
        if (rc)
            return rc < 0 ? rc : 1;
    }
    if (!alone) {
        page_say(t->page, "the socket may be one of several with SO_REUSEPORT");
        return 1;
    }
    /* Read the address only now: listen(2) binds an unbound socket. */
    int rc = read_address(t);
    return rc ? rc : add_slots(t, o, listening, reuseport);
}

/* Place the global listener: it is slot 0 itself, or comes before all slots. Returns the number of
 * slots that it takes. */
static uint32_t place_global(struct fs_table *t)
{
    t->first_member = t->first_is_slot ? 0 : 1;
    if (t->first_is_slot)
        t->fds[0] = t->global;
    return t->first_is_slot ? 1 : 0;
}

static struct fs_table *table_alloc(uint32_t slots)
{
    struct fs_table *t = calloc(1, sizeof *t + slots * sizeof *t->fds);
    if (!t)
        return NULL;
    t->slots = slots;
    t->memfd = t->bell = -1;
    atomic_store(&t->global, -1);
    for (uint32_t i = 0; i < slots; i++)
        t->fds[i] = -1;
    return t;
}

/* Make the page and the bell, and note the facts about the listener. Positive: a call was
 * refused. */
static int begin(struct fs_table *t, int fd, const struct fs_table_options *o)
{
    const char *call = "";
    int refused = page_create(&t->map, &t->memfd, t->slots, &call);
    if (refused < 0)
        return refused;
    t->page = t->map.page;
    t->numbers = true;
    t->global = fd;
    /* Never use a standard stream's number, even if that stream is closed: other code writes
     * there. */
    t->lowest_fd = o->lowest_fd > STDERR_FILENO ? o->lowest_fd : STDERR_FILENO + 1;
    t->memfd = table_place(t, t->memfd);
    if (refused)
        say_refused(t, call, refused);
    int bell = table_bell_open(&call);
    if (fs_is_refused(bell))
        refused = say_refused(t, call, -bell);
    else if (bell < 0)
        return bell;
    t->bell = bell < 0 ? -1 : table_place(t, bell);
    t->cookie = fs_socket_cookie(fd);
    atomic_store(&t->page->cookie, t->cookie);
    atomic_store(&t->page->bell, t->bell);
    assign_cores(t);
    int rc = o->flags & FS_SUPERVISED ? ledger_open(t) : 0;
    if (!rc)
        rc = read_address(t);
    return rc ? rc : refused;
}

/* Whether connections carry their times: they inherit the option, and slots copy it. Where it is
 * refused they carry none; those of a unix socket have none either. */
static bool has_times(int fd)
{
    return fs_socket_option(fd, SOL_SOCKET, SO_TIMESTAMPNS) > 0;
}

/* Listen, and add slots if possible. */
static int listen_with_slots(struct fs_table *t, const struct fs_table_options *o, bool listening,
                             int reuseport)
{
    t->first_is_slot = o->flags & FS_FIRST_IS_SLOT;
    flag_write(&t->page->first_is_slot, t->first_is_slot);
    t->own_from = t->made = place_global(t);
    if (t->first_is_slot)
        atomic_store(&t->page->slot[0].cookie, t->cookie);
    table_choose_steering(t, o->steer);
    int rc = convert(t, o, listening, reuseport);
    if (rc != 1)
        return rc;
    t->shared = true;
    for (uint32_t i = 0; i < t->slots; i++)
        t->fds[i] = -1;
    return 0;
}

/* Facts about a socket, each -errno if it could not be read. look_at also returns -errno, and the
 * name of the first such option. */
struct kind_of_socket {
    int listening, domain, protocol, reuseport;
};

static int look_at(int fd, struct kind_of_socket *kind, const char **option)
{
    const struct {
        int *value, name;
        const char *text;
    } asked[] = {
        {&kind->listening, SO_ACCEPTCONN, "SO_ACCEPTCONN"},
        {&kind->domain, SO_DOMAIN, "SO_DOMAIN"},
        {&kind->protocol, SO_PROTOCOL, "SO_PROTOCOL"},
        {&kind->reuseport, SO_REUSEPORT, "SO_REUSEPORT"},
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        *asked[i].value = fs_socket_option(fd, SOL_SOCKET, asked[i].name);
        if (*asked[i].value < 0 && !rc) {
            rc = *asked[i].value;
            *option = asked[i].text;
        }
    }
    return rc;
}

int fs_table_create(struct fs_table **out, int fd, const struct fs_table_options *o)
{
    if (o->slots > FS_SLOTS_MAX || o->records > FS_SLOTS_MAX ||
        (unsigned)o->steer > FS_STEER_SPREAD)
        return -EINVAL;
    struct kind_of_socket kind;
    const char *option = "";
    int unknown = look_at(fd, &kind, &option);
    if (unknown && !fs_is_refused(unknown))
        return unknown;
    bool tcp = (kind.domain == AF_INET || kind.domain == AF_INET6) && kind.protocol == IPPROTO_TCP;
    uint32_t slots = tcp && !unknown ? o->slots : 0;
    struct fs_table *t = table_alloc(slots ? slots : o->records);
    if (!t)
        return -ENOMEM;
    int rc = begin(t, fd, o), refused = rc > 0 ? rc : 0;
    if (refused)
        rc = 0;
    if (!rc && !refused && unknown)
        refused = say_refused(t, option, -unknown);
    if (!rc && tcp && o->flags & FS_TIMED)
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &(int){1}, sizeof(int));
    t->timed = !rc && o->flags & FS_TIMED && has_times(fd);
    if (!rc && slots && !refused) {
        rc = listen_with_slots(t, o, kind.listening, kind.reuseport);
    } else if (!rc) {
        t->shared = true;
        if (!refused)
            page_say(t->page, tcp ? "no slots were requested" : "not a TCP socket");
        /* Where it is not known whether the socket listens, listen once more: that changes nothing
         * except the backlog, listen(2). */
        if (kind.listening <= 0 && listen(fd, o->backlog) < 0)
            rc = -errno;
    }
    if (rc) {
        fs_table_free(t);
        return rc;
    }
    t->refused = t->refused && o->slots && (tcp || unknown);
    flag_write(&t->page->shared, t->shared);
    if (t->ledger) {
        page_read_why(t->page, t->ledger->why);
        ledger_begin(t->ledger, t);
    }
    *out = t;
    return 0;
}

/* Make a table on a page that another process made. */
static int table_on(struct fs_table **out, int memfd, bool writable)
{
    struct mapping map;
    int rc = page_attach(&map, memfd, writable);
    if (rc)
        return rc;
    struct fs_table *t = table_alloc(map.slots);
    if (!t) {
        page_unmap(&map);
        return -ENOMEM;
    }
    t->map = map;
    t->page = map.page;
    t->shared = flag_read(&t->page->shared);
    t->first_is_slot = flag_read(&t->page->first_is_slot);
    t->hashed = atomic_load(&t->page->steer) == FS_STEER_HASH;
    t->cookie = atomic_load(&t->page->cookie);
    t->address_len = page_read_address(t->page, &t->address);
    t->read_only = !writable;
    *out = t;
    return 0;
}

int fs_table_attach(struct fs_table **out, int memfd)
{
    return table_on(out, memfd, false);
}

int fs_table_adopt(struct fs_table **out, int memfd, int bell, int global, const int *slots,
                   uint32_t count)
{
    struct fs_table *t;
    int rc = table_on(&t, memfd, true);
    if (rc)
        return rc;
    if (count != (t->shared ? 0 : t->slots)) {
        fs_table_free(t);
        return -EINVAL;
    }
    t->memfd = memfd;
    t->lowest_fd = memfd; /* later descriptors belong next to the received ones */
    t->bell = bell;
    t->global = global;
    t->cookie = fs_socket_cookie(global);
    for (uint32_t i = 0; i < count; i++)
        t->fds[i] = slots[i];
    t->own_from = count ? place_global(t) : 0;
    t->made = count;
    t->timed = has_times(global);
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
    if (t->page)
        page_unmap(&t->map);
    free(t->ledger);
    free(t);
}
