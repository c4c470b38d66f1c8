/* SPDX-License-Identifier: MIT
 *
 * A connection must look the same whether the global listener or a slot took it.
 */
#include "check.h"

#include <linux/filter.h>

#include <netinet/ip.h>
#include <sys/resource.h>

static const struct {
    int level, name, value;
} integers[] = {
    {SOL_SOCKET, SO_KEEPALIVE, 1},
    {SOL_SOCKET, SO_PRIORITY, 3},
    {SOL_SOCKET, SO_RCVLOWAT, 7},
    {SOL_SOCKET, SO_OOBINLINE, 1},
    {SOL_SOCKET, SO_RCVBUF, 30000},
    {SOL_SOCKET, SO_SNDBUF, 40000},
    {IPPROTO_TCP, TCP_NODELAY, 1},
    {IPPROTO_TCP, TCP_KEEPIDLE, 77},
    {IPPROTO_TCP, TCP_KEEPINTVL, 11},
    {IPPROTO_TCP, TCP_KEEPCNT, 4},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, 5000},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, 9000},
    {IPPROTO_TCP, TCP_SYNCNT, 3},
    {IPPROTO_TCP, TCP_LINGER2, 9},
    {IPPROTO_IP, IP_TOS, 0x10},
    {IPPROTO_IP, IP_TTL, 33},
};
enum { INTEGERS = sizeof integers / sizeof *integers };

static int get(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    CHECK(getsockopt(fd, level, name, &value, &len) == 0);
    return value;
}

static void set(int fd, int level, int name, int value)
{
    CHECK(setsockopt(fd, level, name, &value, sizeof value) == 0);
}

static void same_on(int a, int b)
{
    for (int i = 0; i < INTEGERS; i++)
        CHECK_IS(get(b, integers[i].level, integers[i].name),
                 get(a, integers[i].level, integers[i].name));
}

static void run(void)
{
    int fd = bound("127.0.0.1");
    struct linger linger = {.l_onoff = 1, .l_linger = 5}, got;
    struct sock_filter keep[] = {BPF_STMT(BPF_RET | BPF_K, UINT32_MAX)};
    struct sock_fprog filter = {.len = 1, .filter = keep};
    char congestion[16] = "";
    socklen_t len = sizeof got;
    int untouched = bound("127.0.0.1");
    for (int i = 0; i < INTEGERS; i++)
        set(fd, integers[i].level, integers[i].name, integers[i].value);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0);
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0);
    struct fs_table *table = make_table_on(fd, 2, FS_STEER_SPREAD);
    int slot = fs_table_fd(table, 1);

    same_on(fd, slot);
    CHECK(get(slot, SOL_SOCKET, SO_RCVBUF) != get(untouched, SOL_SOCKET, SO_RCVBUF));
    CHECK(getsockopt(slot, SOL_SOCKET, SO_LINGER, &got, &len) == 0);
    CHECK(got.l_onoff == 1 && got.l_linger == 5);
    len = sizeof congestion;
    CHECK(getsockopt(slot, IPPROTO_TCP, TCP_CONGESTION, congestion, &len) == 0);
    CHECK(strcmp(congestion, "reno") == 0);
    len = 0;
    CHECK(getsockopt(slot, SOL_SOCKET, SO_GET_FILTER, NULL, &len) == 0);
    CHECK_IS(len, 1);

    /* A connection inherits the same options from either. */
    int client = client_of(fd);
    int by_global = fs_table_accept(table, FS_GLOBAL, FS_GLOBAL, NULL, NULL, SOCK_CLOEXEC);
    CHECK(by_global >= 0);
    CHECK_IS(fs_table_activate(table, 1, true), 0);
    int second = client_of(fd);
    int by_slot = fs_table_accept(table, FS_GLOBAL, 1, NULL, NULL, SOCK_CLOEXEC);
    CHECK(by_slot >= 0);
    same_on(by_global, by_slot);
    close(by_global), close(by_slot), close(client), close(second);

    /* Options that are set later, and options that need listen(2) first. */
    set(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
    set(fd, IPPROTO_TCP, TCP_FASTOPEN, 16);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 99);
    CHECK_IS(fs_table_copy_options(table), 0);
    CHECK_IS(get(slot, IPPROTO_TCP, TCP_DEFER_ACCEPT), get(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT));
    CHECK(get(slot, IPPROTO_TCP, TCP_DEFER_ACCEPT) > 0);
    CHECK_IS(get(slot, IPPROTO_TCP, TCP_FASTOPEN), 16);
    CHECK_IS(get(slot, IPPROTO_TCP, TCP_KEEPIDLE), 99);
    fs_table_free(table);
    close(fd);

    /* One of several sockets with SO_REUSEPORT: we do not know the numbers of its group. */
    int first = bound("127.0.0.1");
    socklen_t name_len = sizeof(struct sockaddr_in);
    struct sockaddr_in name;
    CHECK(getsockname(first, (struct sockaddr *)&name, &name_len) == 0);
    close(first);
    int group[2];
    for (int i = 0; i < 2; i++) {
        group[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        set(group[i], SOL_SOCKET, SO_REUSEPORT, 1);
        CHECK(bind(group[i], (struct sockaddr *)&name, name_len) == 0);
    }
    CHECK(listen(group[0], 8) == 0);
    table = make_table_on(group[1], 2, FS_STEER_SPREAD);
    CHECK_IS(table_info(table).shared, 1);
    CHECK(strstr(table_info(table).why, "one of several"));
    CHECK_IS(get(group[1], SOL_SOCKET, SO_REUSEPORT), 1);
    fs_table_free(table);
    close(group[0]), close(group[1]);

    /* SO_REUSEPORT alone does not make a socket one of several. */
    int alone = bound("127.0.0.1");
    set(alone, SOL_SOCKET, SO_REUSEPORT, 1);
    table = make_table_on(alone, 2, FS_STEER_SPREAD);
    CHECK_IS(table_info(table).shared, 0);
    fs_table_free(table);
    close(alone);

    /* No descriptors are left for slots: the socket listens as it would without us, and `why` says
     * so. */
    int scarce = bound("127.0.0.1");
    struct rlimit limit, low;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    low = (struct rlimit){.rlim_cur = (rlim_t)scarce + 4, .rlim_max = limit.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
    table = make_table_on(scarce, 8, FS_STEER_SPREAD);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_IS(table_info(table).shared, 1);
    CHECK(strstr(table_info(table).why, "Too many open files"));
    client = client_of(scarce);
    CHECK_IS(accept_all(table, FS_GLOBAL, FS_GLOBAL), 1);
    close(client);
    fs_table_free(table);
    close(scarce);

    /* IPv6 only stays IPv6 only, or the slot would collide with another program's IPv4 listener. */
    int v6 = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    set(v6, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    CHECK(bind(v6, (struct sockaddr *)&any, sizeof any) == 0);
    table = make_table_on(v6, 1, FS_STEER_SPREAD);
    CHECK_IS(get(fs_table_fd(table, 0), IPPROTO_IPV6, IPV6_V6ONLY), 1);
    fs_table_free(table);
    close(v6);

    /* A socket that was listening already is converted if it had SO_REUSEADDR; even so, no second
     * server gets in unasked. A socket that cannot be converted is shared as it was, with the
     * reason. */
    CHECK(listen(untouched, 8) == 0);
    table = make_table_on(untouched, 2, FS_STEER_SPREAD);
    CHECK_IS(table_info(table).shared, 0);
    struct sockaddr_storage address;
    socklen_t address_len = sizeof address;
    CHECK(getsockname(untouched, (struct sockaddr *)&address, &address_len) == 0);
    int rival = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set(rival, SOL_SOCKET, SO_REUSEADDR, 1);
    CHECK(bind(rival, (struct sockaddr *)&address, address_len) < 0 && errno == EADDRINUSE);
    close(rival);
    fs_table_free(table);
    close(untouched);

    int foreign = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    CHECK(bind(foreign, (struct sockaddr *)&loopback, sizeof loopback) == 0);
    CHECK(listen(foreign, 8) == 0);
    client = client_of(foreign); /* a connection without the option bars the port to siblings */
    table = make_table_on(foreign, 2, FS_STEER_SPREAD);
    CHECK_IS(table_info(table).shared, 1);
    CHECK(strstr(table_info(table).why, "listening already"));
    CHECK_IS(get(foreign, SOL_SOCKET, SO_REUSEPORT), 0);
    CHECK_IS(accept_all(table, FS_GLOBAL, FS_GLOBAL), 1);
    CHECK_IS(table_info(table).others, 1);
    close(client);
    fs_table_free(table);
    close(foreign);
}
