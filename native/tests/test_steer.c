/* SPDX-License-Identifier: MIT
 *
 * Steering: where connections really arrive, for every shape of the live set.
 */
#include "check.h"
#include "steer.h"
#include "table.h"

enum { SLOTS = 4, CONNECTIONS = 400 };

/* Connect CONNECTIONS times, then empty all queues: counts[] gets the arrivals per slot, and
 * counts[SLOTS] those of the global listener. */
static void arrivals(struct fs_table *table, int fd, int counts[SLOTS + 1])
{
    int clients[CONNECTIONS];
    for (int i = 0; i < CONNECTIONS; i++)
        clients[i] = client_of(fd);
    for (int i = 0; i <= SLOTS; i++)
        counts[i] = accept_all(table, FS_GLOBAL, i == SLOTS ? FS_GLOBAL : i);
    for (int i = 0; i < CONNECTIONS; i++)
        close(clients[i]);
}

static void run_on(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
}

static void spread_is_even_over_live_slots(const char *host)
{
    int fd = bound(host), counts[SLOTS + 1];
    struct fs_table *table = make_table_on(fd, SLOTS, FS_STEER_SPREAD);
    for (unsigned live = 0; live < 1u << SLOTS; live++) {
        int count = __builtin_popcount(live);
        for (int i = 0; i < SLOTS; i++)
            CHECK_IS(fs_table_activate(table, i, live >> i & 1), 0);
        arrivals(table, fd, counts);
        CHECK_IS(counts[SLOTS], live ? 0 : CONNECTIONS);
        for (int i = 0; i < SLOTS; i++) {
            if (!(live >> i & 1))
                CHECK_IS(counts[i], 0);
            else /* six standard deviations of an even split are below half of it */
                CHECK(counts[i] > CONNECTIONS / count / 2);
        }
    }
    fs_table_free(table);
    close(fd);
}

static void cpu_is_the_receiving_core(void)
{
    cpu_set_t all;
    int cores[2], found = 0, counts[SLOTS + 1];
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET(cpu, &all))
            cores[found++] = cpu;
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, SLOTS, FS_STEER_CPU);
    /* The slots took the allowed cores in turn. */
    for (int i = 0; i < SLOTS; i++)
        CHECK_IS(fs_table_activate(table, i, true), 0);
    for (int c = 0; c < found; c++) {
        run_on(cores[c]);
        arrivals(table, fd, counts);
        for (int i = 0; i <= SLOTS; i++) {
            bool here = i < SLOTS && slot_info(table, i).cpu == cores[c];
            CHECK(here ? counts[i] > 0 : counts[i] == 0);
        }
    }
    /* Connections of a core without a live slot are spread over the others. */
    for (int i = 0; i < SLOTS; i++)
        CHECK_IS(fs_table_activate(table, i, slot_info(table, i).cpu != cores[0] || found == 1), 0);
    run_on(cores[0]);
    arrivals(table, fd, counts);
    int taken = 0;
    for (int i = 0; i < SLOTS; i++)
        taken += counts[i];
    CHECK_IS(taken, CONNECTIONS);
    /* Switch the steering of a table in use. */
    CHECK_IS(fs_table_steer(table, FS_STEER_SPREAD), 0);
    for (int i = 0; i < SLOTS; i++)
        CHECK_IS(fs_table_activate(table, i, true), 0);
    arrivals(table, fd, counts);
    for (int i = 0; i < SLOTS; i++)
        CHECK(counts[i] > CONNECTIONS / SLOTS / 2);
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
    fs_table_free(table);
    close(fd);
}

static void auto_says_why_and_reviews(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, SLOTS, FS_STEER_AUTO);
    CHECK_IS(table_info(table).wanted, FS_STEER_AUTO);
    CHECK_IS(table_info(table).steer, FS_STEER_SPREAD);
    CHECK(strstr(table_info(table).why, "loopback"));
    CHECK_IS(fs_table_review(table), 0);
    CHECK_IS(fs_table_steer(table, (enum fs_steer)9), -EINVAL);

    /* As on a card with several queues of which only one is used: the steering is cpu until a
     * review sees that. */
    atomic_store(&table->page->steer, FS_STEER_CPU);
    for (int slot = 0; slot < 2; slot++)
        CHECK_IS(fs_table_activate(table, slot, true), 0);
    cpu_set_t all;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    int counts[SLOTS + 1], core = slot_info(table, 1).cpu;
    run_on(core);
    for (int round = 0; round < 3; round++) {
        CHECK_IS(fs_table_review(table), 0);
        arrivals(table, fd, counts);
    }
    bool several = core != slot_info(table, 0).cpu;
    CHECK_IS(fs_table_review(table), several);
    CHECK(!several || strstr(table_info(table).why, "of the last 1200 connections"));
    CHECK_IS(table_info(table).steer, several ? FS_STEER_SPREAD : FS_STEER_CPU);
    arrivals(table, fd, counts);
    CHECK(counts[0] > CONNECTIONS / 4 && counts[1] > CONNECTIONS / 4);
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
    fs_table_free(table);
    close(fd);
}

/* The program's own listener is shut down: the slots go on, under their new numbers. */
static void survives_a_shut_down_listener(void)
{
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, SLOTS, FS_STEER_SPREAD);
    CHECK(shutdown(fd, SHUT_RDWR) == 0);
    for (int live = 0; live < SLOTS; live++) {
        for (int i = 0; i < SLOTS; i++)
            CHECK_IS(fs_table_activate(table, i, i == live), 0);
        for (int i = 0; i < 10; i++)
            close(client_of(fs_table_fd(table, live)));
        for (int i = 0; i < SLOTS; i++)
            CHECK_IS(accept_all(table, FS_GLOBAL, i), i == live ? 10 : 0);
    }
    fs_table_free(table);
    close(fd);
}

/* The program of the largest table fits the kernel's limit, which the kernel checks when the
 * program is attached. */
static void largest_program_fits(void)
{
    struct sock_filter *program = calloc(STEER_PROGRAM_MAX(FS_SLOTS_MAX), sizeof *program);
    struct steer_member live[FS_SLOTS_MAX];
    int fd = bound("127.0.0.1");
    struct fs_table *table = make_table_on(fd, 1, FS_STEER_SPREAD);
    for (int cores = 1; cores <= FS_SLOTS_MAX; cores *= 2) {
        for (int i = 0; i < FS_SLOTS_MAX; i++)
            live[i] = (struct steer_member){.member = (uint32_t)i, .cpu = i % cores};
        size_t length = steer_program(program, FS_STEER_CPU, live, FS_SLOTS_MAX);
        CHECK(length <= STEER_PROGRAM_MAX(FS_SLOTS_MAX) && length <= BPF_MAXINSNS);
        CHECK_IS(steer_attach(fd, program, length), 0);
    }
    free(program);
    fs_table_free(table);
    close(fd);
}

static void run(void)
{
    spread_is_even_over_live_slots("127.0.0.1");
    spread_is_even_over_live_slots("::1");
    cpu_is_the_receiving_core();
    auto_says_why_and_reviews();
    survives_a_shut_down_listener();
    largest_program_fits();
}
