/* SPDX-License-Identifier: MIT
 *
 * A table where the kernel takes no steering program. The table is left to the kernel's own hash if
 * all of its slots are looked after, and they are, even if the page says otherwise; else the
 * listener is shared.
 */
#include "check.h"
#include "table.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { SLOTS = 4, CLIENTS = 200 };

/* From now on, setsockopt(2) of SO_ATTACH_REUSEPORT_CBPF is refused in this process. */
static void refuse_programs(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_ATTACH_REUSEPORT_CBPF, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOPROTOOPT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static struct fs_table *made(int fd, uint32_t flags)
{
    struct fs_table_options options = {.slots = SLOTS, .backlog = 512, .flags = flags};
    struct fs_table *table;
    CHECK_IS(fs_table_create(&table, fd, &options), 0);
    CHECK(fs_table_refused(table));
    return table;
}

static void every_slot_is_looked_after(uint32_t more)
{
    int fd = bound("127.0.0.1"), clients[CLIENTS], sources[SLOTS + 1], accepted = 0;
    struct fs_table *table = made(fd, FS_HASH_WILL_DO | more);
    struct fs_table_info info;
    fs_table_read(table, &info);
    CHECK_IS(info.steer, FS_STEER_HASH);
    CHECK(!info.shared);
    CHECK_IS(fs_table_claim(table, 1, -1), 1);
    CHECK_IS(fs_table_activate(table, 1, true), 0);
    CHECK_IS(fs_table_steer(table, FS_STEER_CPU), 0);
    /* Another process may write anything into the page. */
    for (int i = 0; i < SLOTS; i++)
        atomic_store(&table->page->slot[i].claims, 0);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = client_of(fd);
    uint32_t count = fs_table_sources(table, 1, FS_SIBLINGS, sources);
    for (uint32_t i = 0; i < count; i++)
        accepted += accept_all(table, 1, sources[i]);
    CHECK_IS(accepted, CLIENTS);
    fs_table_read(table, &info);
    CHECK_IS(info.steer, FS_STEER_HASH);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
    fs_table_free(table);
    close(fd);
}

static void one_who_asks_for_no_more_shares(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table *table = made(fd, 0);
    struct fs_table_info info;
    fs_table_read(table, &info);
    CHECK(info.shared);
    CHECK(strstr(info.why, "SO_ATTACH_REUSEPORT_CBPF is refused: "));
    CHECK_IS(fs_socket_option(fd, SOL_SOCKET, SO_REUSEPORT), 0);
    int client = client_of(fd);
    CHECK_IS(accept_all(table, FS_GLOBAL, FS_GLOBAL), 1);
    close(client);
    fs_table_free(table);
    close(fd);
}

static void run(void)
{
    refuse_programs();
    every_slot_is_looked_after(0);
    every_slot_is_looked_after(FS_FIRST_IS_SLOT);
    every_slot_is_looked_after(FS_FIRST_IS_SLOT | FS_SUPERVISED);
    one_who_asks_for_no_more_shares();
}
