/* SPDX-License-Identifier: MIT
 *
 * Claims: the threads that get a slot, those that do not, and the slots of dead owners.
 */
#include "check.h"
#include "table.h"

/* A child that claims `slot` and then waits to be killed; returns after the claim. */
static pid_t claimant(struct fs_table *table, int slot)
{
    int ready[2];
    char byte;
    CHECK(pipe(ready) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_IS(fs_table_claim(table, slot, -1), slot);
        CHECK_IS(fs_table_activate(table, slot, true), 0);
        CHECK(write(ready[1], "r", 1) == 1);
        pause();
        _exit(0);
    }
    close(ready[1]);
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    return pid;
}

static void kill_child(pid_t pid)
{
    CHECK(kill(pid, SIGKILL) == 0);
    reap_child(pid);
}

static void run(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, 3, FS_STEER_SPREAD);
    CHECK_IS(table_info(table).shared, 0);

    /* A claim is this thread's; it may be repeated, and released once. */
    CHECK_IS(fs_table_claim(table, 1, -1), 1);
    CHECK_IS(fs_table_claim(table, 1, -1), 1);
    CHECK_IS(slot_info(table, 1).pid, getpid());
    CHECK_IS(slot_info(table, 1).claims, 1);
    CHECK_IS(fs_table_release(table, 1), 0);
    CHECK_IS(fs_table_release(table, 1), -EPERM);
    CHECK_IS(fs_table_claim(table, 3, -1), -EINVAL);

    /* A living owner keeps its slot; the slot of a dead owner, zombie or gone, is taken over. */
    pid_t pid = claimant(table, 1);
    CHECK_IS(fs_table_claim(table, 1, -1), -EBUSY);
    CHECK_IS(fs_table_release(table, 1), -EPERM);
    CHECK_IS(fs_table_reap(table), 0);
    CHECK(kill(pid, SIGKILL) == 0);
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0); /* a zombie now */
    CHECK_IS(slot_info(table, 1).alive, 0);
    CHECK_IS(fs_table_claim(table, 1, -1), 1);
    reap_child(pid);
    CHECK_IS(fs_table_release(table, 1), 0);

    /* Reaping clears claim and live set; connections in the queue stay for other processes. */
    pid = claimant(table, 2);
    int client = client_of(fd);
    CHECK_IS(fs_table_queued(table, 2), 1);
    kill_child(pid);
    uint64_t generation = table_info(table).generation;
    CHECK_IS(fs_table_reap(table), 1);
    CHECK_IS(fs_table_reap(table), 0);
    CHECK(table_info(table).generation > generation);
    CHECK_IS(slot_info(table, 2).pid, 0);
    CHECK_IS(slot_info(table, 2).live, 0);
    CHECK_IS(fs_table_queued(table, 2), 1);
    CHECK_IS(fs_table_claim(table, 0, -1), 0);
    CHECK_IS(accept_all(table, 0, 2), 1);
    CHECK_IS(slot_info(table, 0).orphan, 1);
    close(client);

    /* No slot is live: only the global listener gets the connection. */
    client = client_of(fd);
    CHECK_IS(fs_table_queued(table, FS_GLOBAL), 1);
    CHECK_IS(accept_all(table, 0, FS_GLOBAL), 1);
    CHECK_IS(slot_info(table, 0).global, 1);
    close(client);

    /* A connection from a sibling's slot counts as stolen. */
    pid = claimant(table, 1);
    client = client_of(fd);
    CHECK_IS(accept_all(table, 0, 1), 1);
    CHECK_IS(slot_info(table, 0).stolen, 1);
    CHECK_IS(slot_info(table, 1).arrived, 1);
    close(client);

    /* Handing over: the new owner has the slot while the old one lives. */
    pid_t next = fork();
    if (next == 0) {
        pause();
        _exit(0);
    }
    CHECK_IS(fs_table_hand_over(table, 1, next), 0);
    CHECK_IS(slot_info(table, 1).pid, next);
    kill_child(pid);
    CHECK_IS(fs_table_reap(table), 0);
    CHECK_IS(slot_info(table, 1).live, 1);
    kill_child(next);
    CHECK_IS(fs_table_hand_over(table, 1, next), -ESRCH);
    CHECK_IS(fs_table_hand_over(table, 1, 0), -ESRCH);
    CHECK_IS(fs_table_hand_over(table, 1, -1), -ESRCH);

    /* A process that dies with the lock between two stores leaves no live slot without an owner. */
    pid = fork();
    if (pid == 0) {
        CHECK_IS(fs_table_claim(table, 1, -1), 1);
        CHECK_IS(fs_table_activate(table, 1, true), 0);
        CHECK_IS(page_lock(table->page), 0);
        atomic_store(&table->page->slot[1].pid, 0);
        raise(SIGKILL);
    }
    reap_child(pid);
    CHECK_IS(fs_table_reap(table), 0);
    CHECK_IS(slot_info(table, 1).live, 0);

    /* FS_ANY_SLOT: the free slot of the requested core, else the first free slot. */
    CHECK_IS(fs_table_release(table, 0), 0);
    CHECK_IS(fs_table_claim(table, 2, 7), 2);
    CHECK_IS(fs_table_release(table, 2), 0);
    CHECK_IS(fs_table_claim(table, FS_ANY_SLOT, 7), 2);
    CHECK_IS(fs_table_claim(table, FS_ANY_SLOT, 7), 0);
    CHECK_IS(slot_info(table, 0).cpu, 7);
    CHECK_IS(fs_table_claim(table, FS_ANY_SLOT, -1), 1);
    CHECK_IS(fs_table_claim(table, FS_ANY_SLOT, -1), -EBUSY);

    /* A view of the table can read, and nothing else. */
    struct fs_table *view = NULL;
    CHECK_IS(fs_table_attach(&view, fs_table_page_fd(table)), 0);
    CHECK_IS(slot_info(view, 1).pid, getpid());
    CHECK_IS(fs_table_claim(view, 1, -1), -EROFS);
    CHECK_IS(fs_table_fd(view, 1), -EROFS);
    fs_table_free(view);
    CHECK_IS(fs_table_attach(&view, fd), -EINVAL);

    fs_table_free(table);
    close(fd);
}
