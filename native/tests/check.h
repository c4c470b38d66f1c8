/* SPDX-License-Identifier: MIT
 *
 * Shared by the C tests: checks that name their place, listeners and clients on loopback, and a
 * main that counts descriptors before and after. LeakSanitizer checks the memory.
 */
#ifndef FS_TESTS_CHECK_H
#define FS_TESTS_CHECK_H

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fastsocket/fs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: failed: %s (errno %d)\n", __FILE__, __LINE__, #condition,      \
                    errno);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_IS(got, want)                                                                        \
    do {                                                                                           \
        long long got_ = (long long)(got), want_ = (long long)(want);                              \
        if (got_ != want_) {                                                                       \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, got_,       \
                    want_);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static inline int count_fds(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* A socket bound to a free port of `host`, not listening yet. */
static inline int bound(const char *host)
{
    int on = 1;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    int is_v4 = inet_pton(AF_INET, host, &v4.sin_addr) == 1;
    CHECK(is_v4 || inet_pton(AF_INET6, host, &v6.sin6_addr) == 1);
    int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    CHECK(bind(fd, is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6,
               is_v4 ? sizeof v4 : sizeof v6) == 0);
    return fd;
}

static inline struct fs_table *make_table_on(int fd, uint32_t slots, enum fs_steer steer)
{
    struct fs_table_options options = {.slots = slots, .backlog = 1024, .steer = steer};
    struct fs_table *table = NULL;
    CHECK_IS(fs_table_create(&table, fd, &options), 0);
    return table;
}

/* A connected client of the listener `fd`. */
static inline int client_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    int client = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(client >= 0);
    CHECK(connect(client, (struct sockaddr *)&address, len) == 0);
    return client;
}

static inline struct fs_slot_info slot_info(const struct fs_table *table, int slot)
{
    struct fs_slot_info info;
    CHECK_IS(fs_table_read_slot(table, slot, &info), 0);
    return info;
}

static inline struct fs_table_info table_info(const struct fs_table *table)
{
    struct fs_table_info info;
    fs_table_read(table, &info);
    return info;
}

/* Accept all connections that wait at `source`, for the owner of `slot`. Returns their number. */
static inline int accept_all(struct fs_table *table, int slot, int source)
{
    int count = 0, fd;
    while ((fd = fs_table_accept(table, slot, source, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        close(fd);
        count++;
    }
    CHECK_IS(fd, -EAGAIN);
    return count;
}

static inline void reap_child(pid_t pid)
{
    CHECK(waitpid(pid, NULL, 0) == pid);
}

#ifndef FS_FUZZER /* the fuzzer has a main of its own */
static void run(void);

int main(void)
{
    int before = count_fds();
    run();
    CHECK_IS(count_fds(), before);
    return 0;
}
#endif

#endif
