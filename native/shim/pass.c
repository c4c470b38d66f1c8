/* SPDX-License-Identifier: MIT */
#include "pass.h"
#include "backend.h"
#include "fdtable.h"
#include "listener.h"
#include "log.h"
#include "real.h"
#include "state.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* FSOCKET_TABLES=listener:asked:page:bell:slot,slot,...;... */
static const char variable[] = "FSOCKET_TABLES=";

enum {
    DIGITS = 11,          /* of a descriptor, with the character after it */
    TEXT_MAX = 96 * 1024, /* execve(2): one string of the environment has at most 128 KiB */
};

/* The variable that preloads us here, kept for a program that gets our listeners but not the
 * environment (nginx executes its successor with a few variables only). */
static char preload[PATH_MAX + 16];
/* Our settings, kept for such a program: FSOCKET_... as they were when this program started. */
static char *kept[16];
static size_t kept_count;

/* ---- to the next program ---- */

/* The next descriptor after `after` of a listener that the program keeps open over exec. */
static int next_passed(int after, struct listener **l, struct fs_table **table)
{
    for (int fd = after; (fd = fdtable_next((unsigned)fd + 1, UINT_MAX)) >= 0;) {
        *l = listener_of(fd);
        *table = *l ? atomic_load(&(*l)->table) : NULL;
        int flags = *table ? real_fcntl(fd, F_GETFD) : -1;
        if (flags >= 0 && !(flags & FD_CLOEXEC) && (*l)->cookie == fs_socket_cookie(fd))
            return fd;
    }
    return -1;
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

void pass_size(char *const envp[], size_t *text, size_t *pointers)
{
    struct listener *l;
    struct fs_table *table;
    *text = sizeof variable + 1;
    for (int fd = -1; (fd = next_passed(fd, &l, &table)) >= 0;)
        *text += (fs_table_slots(table) + 4) * DIGITS;
    *text = *text < TEXT_MAX ? *text : TEXT_MAX;
    for (*pointers = 0; envp && envp[*pointers];)
        ++*pointers;
    *pointers += 3 + kept_count;
}

static void set_cloexec(struct fs_table *table, int flag)
{
    for (uint32_t i = 0; i < fs_table_slots(table); i++)
        real_fcntl(fs_table_fd(table, (int)i), F_SETFD, flag);
    real_fcntl(fs_table_page_fd(table), F_SETFD, flag);
    real_fcntl(fs_table_bell(table), F_SETFD, flag);
}

/* Decimal digits and one more character. No stdio, because a vfork child shares its parent's. */
static char *put(char *at, int number, char after)
{
    char digits[DIGITS];
    int count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count)
        *at++ = digits[--count];
    *at++ = after;
    return at;
}

void pass_prepare(struct pass *pass, char *const envp[], char *text, size_t size, char **pointers)
{
    struct listener *l;
    struct fs_table *table;
    char *at = text + sizeof variable - 1;
    size_t count = 0;
    bool preloaded = false;
    memcpy(text, variable, sizeof variable);
    *pass = (struct pass){.envp = pointers, .text = text};
    for (int fd = -1; (fd = next_passed(fd, &l, &table)) >= 0;) {
        if ((size_t)(at - text) + (fs_table_slots(table) + 4) * DIGITS >= size)
            break; /* there are too many, or another thread listens meanwhile */
        at = put(put(at, fd, ':'), l->asked_reuseport, ':');
        at = put(put(at, fs_table_page_fd(table), ':'), fs_table_bell(table), ':');
        for (uint32_t i = 0; i < fs_table_slots(table); i++)
            at = put(at, fs_table_fd(table, (int)i), ',');
        at[-1] = ';';
        set_cloexec(table, 0);
        pass->clear++;
    }
    *at++ = '\0';
    for (size_t i = 0; envp && envp[i]; i++) {
        if (starts(envp[i], variable))
            continue;
        preloaded = preloaded || starts(envp[i], "LD_PRELOAD=");
        pointers[count++] = envp[i];
    }
    if (pass->clear) {
        pointers[count++] = text;
        /* A cleaned environment has nothing of ours; one with a preload is used as it is. */
        if (!preloaded)
            pointers[count++] = preload;
        for (size_t i = 0; !preloaded && i < kept_count; i++)
            pointers[count++] = kept[i];
    }
    pointers[count] = NULL;
}

void pass_failed(const struct pass *pass)
{
    struct listener *l;
    struct fs_table *table;
    for (int fd = -1; pass->clear && (fd = next_passed(fd, &l, &table)) >= 0;)
        set_cloexec(table, FD_CLOEXEC);
}

/* ---- from the previous program ---- */

static int number(char **at, char after)
{
    char *end;
    long value = strtol(*at, &end, 10);
    if (end == *at || *end != after || value < 0 || value > INT_MAX)
        return -1;
    *at = end + 1;
    return (int)value;
}

/* One table's part of the variable; false if it is invalid. */
static bool receive(char *part)
{
    int fd = number(&part, ':'), asked = number(&part, ':'), page = number(&part, ':'),
        bell = number(&part, ':');
    int slots[FS_SLOTS_MAX];
    uint32_t count = 0;
    if (fd < 0 || asked < 0 || page < 0 || bell < 0)
        return false;
    for (char *end; *part && count < FS_SLOTS_MAX; part = *end ? end + 1 : end) {
        slots[count++] = (int)strtol(part, &end, 10);
        if (end == part)
            return false;
    }
    struct fs_table *table;
    struct fs_table_info info;
    if (fs_table_adopt(&table, page, bell, fd, slots, count))
        return false;
    fs_table_read(table, &info);
    set_cloexec(table, FD_CLOEXEC);
    if (info.cookie != fs_socket_cookie(fd) || listener_enter(fd, table, asked))
        fs_table_free(table);
    else
        log_line(LOG_INFO, "%s: has its %u slots from the previous program", listener_of(fd)->name,
                 count);
    return true;
}

static void keep_settings(void)
{
    for (char **e = environ; e && *e && kept_count < sizeof kept / sizeof *kept; e++) {
        char *copy = starts(*e, "FSOCKET_") && !starts(*e, variable) ? strdup(*e) : NULL;
        if (copy)
            kept[kept_count++] = copy;
    }
}

void pass_receive(void)
{
    Dl_info self;
    keep_settings();
    const char *before = secure_getenv("LD_PRELOAD");
    if (before || !dladdr((void *)(uintptr_t)&pass_receive, &self))
        snprintf(preload, sizeof preload, "LD_PRELOAD=%s", before ? before : "");
    else
        snprintf(preload, sizeof preload, "LD_PRELOAD=%s", self.dli_fname);
    char name[sizeof variable];
    snprintf(name, sizeof name, "%.*s", (int)sizeof variable - 2, variable);
    char *text = secure_getenv(name), *saved = NULL;
    char *copy = text && state.on ? strdup(text) : NULL;
    for (char *part = copy ? strtok_r(copy, ";", &saved) : NULL; part;
         part = strtok_r(NULL, ";", &saved))
        if (!receive(part))
            log_line(LOG_ERROR, "%s%.80s is invalid", variable, part);
    free(copy);
    unsetenv(name);
}

/* ---- from another process ---- */

int pass_guard(const char *what)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    /* An abstract name belongs to the socket that is bound to it, and ends with it: unix(7). */
    int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "fsocket-listen-%s", what);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (int turn = 0; fd >= 0 && turn < 100; turn++) {
        if (bind(fd, (struct sockaddr *)&name,
                 (socklen_t)(sizeof name.sun_family + 1 + (size_t)length)) == 0)
            return fd;
        if (errno != EADDRINUSE)
            break;
        nanosleep(&pause, NULL);
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

static int seen(int found, int before)
{
    bool none = found == -ENOENT || found == -ESRCH || found == -EBADF || found == -EINVAL;
    return none ? before : found;
}

/* Look at every page of every other process until `visit` returns 0; the page is descriptor
 * `number` of process `pid`. Most pages belong to other programs, and are refused or gone. Returns
 * -ENOENT if there was nothing else, else the last refusal. */
static int visit_pages(int fd, int (*visit)(pid_t pid, int number, int fd))
{
    char path[64], link[64];
    int rc = -ENOENT;
    DIR *processes = opendir("/proc");
    for (struct dirent *p; processes && rc != 0 && (p = readdir(processes));) {
        pid_t pid = atoi(p->d_name);
        snprintf(path, sizeof path, "/proc/%d/fd", pid);
        DIR *fds = pid > 0 && pid != state.pid ? opendir(path) : NULL;
        for (struct dirent *e; fds && rc != 0 && (e = readdir(fds));) {
            ssize_t length = readlinkat(dirfd(fds), e->d_name, link, sizeof link - 1);
            link[length < 0 ? 0 : length] = '\0';
            if (starts(link, "/memfd:fastsocket-table"))
                rc = seen(visit(pid, atoi(e->d_name), fd), rc);
        }
        if (fds)
            closedir(fds);
    }
    if (processes)
        closedir(processes);
    return rc;
}

static int take(pid_t pid, int number, int fd)
{
    struct fs_table *table;
    int rc = fs_table_take(&table, pid, number, fd);
    if (!rc && (rc = listener_enter(fd, table, false)))
        fs_table_free(table);
    return rc;
}

/* Open a page for writing, and read its information. -ENOENT: it is not a page. */
static int open_page(pid_t pid, int number, struct fs_table_info *info)
{
    char path[64];
    struct fs_table *view;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, number);
    int page = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (page < 0)
        return -errno;
    if (fs_table_attach(&view, page)) {
        close(page);
        return -ENOENT;
    }
    fs_table_read(view, info);
    fs_table_free(view);
    return page;
}

static int yield_same_listener(pid_t pid, int number, int fd)
{
    struct fs_table_info info;
    int page = open_page(pid, number, &info);
    if (page < 0)
        return page;
    int rc = info.cookie == fs_socket_cookie(fd) ? fs_table_yield(page, fd, false) : -ENOENT;
    close(page);
    return rc;
}

static int yield_same_address(pid_t pid, int number, int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    struct fs_table_info info;
    int page = open_page(pid, number, &info);
    if (page < 0)
        return page;
    getsockname(fd, (struct sockaddr *)&address, &length);
    bool same =
        !info.shared && length == info.address_len && memcmp(&address, &info.address, length) == 0;
    int rc = same ? fs_table_yield(page, fd, true) : -ENOENT;
    close(page);
    return rc;
}

int pass_take_over(int fd)
{
    int rc = visit_pages(fd, take);
    if (rc == 0)
        log_line(LOG_INFO, "%s: shares its slots with the process it came from",
                 listener_of(fd)->name);
    if (rc == 0 || rc == -ENOENT)
        return rc;
    /* Otherwise its owner would get all connections, and we none. */
    int refused = visit_pages(fd, yield_same_listener);
    if (refused == -ENOENT)
        return refused; /* the refusal was for a table of another listener */
    log_line(LOG_ERROR,
             "listener %d: its slots are not available from the process it came from (%s): %s", fd,
             strerror(-rc),
             refused ? "that process gets all connections" : "no local listeners any more");
    return rc;
}

void pass_join(int fd)
{
    int rc = visit_pages(fd, yield_same_address);
    if (rc == 0)
        log_line(LOG_INFO, "listener %d: shares the address with another process, without slots",
                 fd);
    else if (rc != -ENOENT)
        log_line(LOG_ERROR, "listener %d: another process has slots for its address: %s", fd,
                 strerror(-rc));
}

static void received(int fd)
{
    if (!fs_socket_listens(fd) || fs_socket_option(fd, SOL_SOCKET, SO_REUSEPORT) <= 0 ||
        backend_received(fd))
        return;
    uint64_t cookie = fs_socket_cookie(fd);
    sigset_t saved;
    state_lock(&saved);
    int known = -1;
    while ((known = fdtable_next((unsigned)known + 1, UINT_MAX)) >= 0) {
        struct listener *l = listener_of(known);
        if (known != fd && l && l->cookie == cookie && atomic_load(&l->table))
            break;
    }
    if (known >= 0)
        listener_duplicate(known, fd);
    else
        pass_take_over(fd);
    state_unlock(&saved);
}

void pass_message(const struct msghdr *message)
{
    struct msghdr copy = *message;
    int error = errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c; c = CMSG_NXTHDR(&copy, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (state.on && state_mine())
                received(fd);
        }
    }
    errno = error;
}
