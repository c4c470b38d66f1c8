/* SPDX-License-Identifier: MIT
 *
 * 32 processes claim, activate, release, steer and die at random for a bounded number of rounds,
 * many by SIGKILL, so that some die while they have the lock. Afterwards, and all along, no slot
 * has two owners, and a claim never gets stuck.
 */
#include "check.h"

#include <stdatomic.h>
#include <sys/mman.h>

enum { PROCESSES = 32, SLOTS = 8, DEATHS = 600 };

static void live_dangerously(struct fs_table *table, _Atomic(int) *holders, unsigned seed)
{
    for (int round = 0; round < 1000; round++) {
        int slot =
            fs_table_claim(table, rand_r(&seed) % 2 ? FS_ANY_SLOT : rand_r(&seed) % SLOTS, -1);
        if (slot == -EBUSY)
            continue;
        CHECK(slot >= 0);
        /* No other process believes that it has the slot: `holders` is only ours between claim and
         * release. */
        CHECK_IS(slot_info(table, slot).pid, getpid());
        atomic_store(&holders[slot], getpid());
        CHECK_IS(fs_table_activate(table, slot, rand_r(&seed) % 2), 0);
        if (rand_r(&seed) % 4 == 0)
            CHECK_IS(fs_table_steer(table, rand_r(&seed) % 2 ? FS_STEER_CPU : FS_STEER_SPREAD), 0);
        if (rand_r(&seed) % 4 == 0)
            CHECK(fs_table_reap(table) >= 0);
        if (rand_r(&seed) % 64 == 0)
            raise(SIGKILL);
        CHECK_IS(atomic_load(&holders[slot]), getpid());
        CHECK_IS(fs_table_release(table, slot), 0);
    }
}

static void run(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, SLOTS, FS_STEER_SPREAD);
    _Atomic(int) *holders =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[PROCESSES];
    unsigned seed = 20261122;
    for (int i = 0; i < PROCESSES; i++)
        children[i] = 0;
    for (int died = 0; died < DEATHS;) {
        for (int i = 0; i < PROCESSES; i++)
            if (children[i] == 0) {
                children[i] = fork();
                if (children[i] == 0) {
                    live_dangerously(table, holders, seed + (unsigned)(died * PROCESSES + i));
                    _exit(0);
                }
            }
        /* Other processes die at any point. */
        int victim = rand_r(&seed) % PROCESSES, status;
        if (rand_r(&seed) % 2)
            kill(children[victim], SIGKILL);
        pid_t pid = waitpid(-1, &status, 0);
        CHECK(pid > 0);
        CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
        for (int i = 0; i < PROCESSES; i++)
            if (children[i] == pid)
                children[i] = 0;
        died++;
    }
    for (int i = 0; i < PROCESSES; i++)
        if (children[i]) {
            kill(children[i], SIGKILL);
            reap_child(children[i]);
        }
    CHECK(fs_table_reap(table) >= 0);
    for (int i = 0; i < SLOTS; i++) {
        CHECK_IS(slot_info(table, i).pid, 0);
        CHECK_IS(slot_info(table, i).live, 0);
        CHECK_IS(fs_table_claim(table, i, -1), i);
        CHECK_IS(fs_table_activate(table, i, true), 0);
    }
    /* The steering fits the page. */
    int clients[64], taken = 0;
    for (int i = 0; i < 64; i++)
        clients[i] = client_of(fd);
    for (int i = 0; i < SLOTS; i++)
        taken += accept_all(table, i, i);
    CHECK_IS(taken, 64);
    for (int i = 0; i < 64; i++)
        close(clients[i]);
    munmap(holders, 4096);
    fs_table_free(table);
    close(fd);
}
