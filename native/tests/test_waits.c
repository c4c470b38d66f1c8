/* SPDX-License-Identifier: MIT
 *
 * How long connections waited before they were taken: histograms, times of first bytes, samples.
 */
#include "check.h"

#include <fastsocket/pump.h>
#include <time.h>

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static uint32_t only_bucket(uint64_t us)
{
    struct fs_histogram h = {0};
    uint32_t found = FS_BUCKETS;
    fs_histogram_add(&h, us * 1000 + 999);
    for (uint32_t i = 0; i < FS_BUCKETS; i++)
        if (h.count[i])
            found = i;
    return found;
}

/* Each time is in the one bucket whose bounds enclose it, and the bounds are an eighth apart. */
static void buckets(void)
{
    for (uint32_t i = 0; i + 1 < FS_BUCKETS; i++) {
        CHECK(fs_bucket_end(i) < fs_bucket_end(i + 1));
        CHECK(fs_bucket_end(i + 1) - fs_bucket_end(i) <= 1 + fs_bucket_end(i) / 8);
        CHECK_IS(only_bucket(fs_bucket_end(i) - 1), i);
        CHECK_IS(only_bucket(fs_bucket_end(i)), i + 1);
    }
    CHECK(fs_bucket_end(FS_BUCKETS - 1) > 120 * UINT64_C(1000000));
    CHECK_IS(only_bucket(UINT64_C(1) << 40), FS_BUCKETS - 1);
}

static uint64_t counted(struct fs_table *table, int slot, uint64_t *most)
{
    struct fs_histogram waits;
    uint64_t count = 0;
    *most = 0;
    CHECK_IS(fs_table_read_waits(table, slot, &waits), 0);
    for (uint32_t i = 0; i < FS_BUCKETS; i++) {
        count += waits.count[i];
        if (waits.count[i])
            *most = fs_bucket_end(i);
    }
    return count;
}

static struct fs_table *table_of(int fd, uint32_t flags)
{
    struct fs_table *table;
    struct fs_table_options options = {
        .slots = 2, .backlog = 64, .steer = FS_STEER_SPREAD, .flags = FS_FIRST_IS_SLOT | flags};
    CHECK_IS(fs_table_create(&table, fd, &options), 0);
    CHECK_IS(fs_table_claim(table, 0, -1), 0);
    CHECK_IS(fs_table_activate(table, 0, true), 0);
    return table;
}

/* Received at once or later, the first bytes tell how long they waited; later bytes tell
 * nothing. */
static void timed(void)
{
    int fd = bound("127.0.0.1"), error;
    bool more;
    struct fs_table *table = table_of(fd, FS_TIMED);
    struct fs_pump *pump;
    sleep_ms(50); /* net_enable_timestamp: the kernel begins a moment later */
    CHECK_IS(fs_pump_open(&pump), 0);
    uint64_t bytes[2] = {0};
    fs_pump_count(pump, bytes);
    int client = client_of(fd), quiet = client_of(fd);
    CHECK_IS(send(client, "abc", 3, 0), 3);
    sleep_ms(60);
    CHECK_IS(fs_pump_accept(pump, table, 0, 0, 8, true, &error), 2);
    const struct fs_input *in = fs_pump_inputs(pump);
    CHECK_IS(in[0].result, 3);
    CHECK(in[0].waited >= 55 * 1000000 && in[0].waited < 10 * INT64_C(1000000000));
    CHECK_IS(in[1].result, -EAGAIN);
    CHECK_IS(in[1].waited, -1);
    struct fs_output out[2] = {
        {.fd = in[0].fd, .owner = &out[0], .read = FS_READ_RECEIVE},
        {.fd = in[1].fd, .owner = &out[1], .read = FS_READ_RECEIVE, .unheard = true},
    };
    fs_pump_flush(pump, out, 2);
    for (int round = 0; round < 2; round++) {
        CHECK_IS(send(client, "de", 2, 0), 2);
        CHECK_IS(send(quiet, "fg", 2, 0), 2);
        sleep_ms(60);
        CHECK_IS(fs_pump_poll(pump, &more), 2);
        for (int i = 0; i < 2; i++) {
            bool first = in[i].owner == &out[1] && round == 0;
            CHECK_IS(in[i].result, 2);
            CHECK(first ? in[i].waited >= 55 * 1000000 : in[i].waited == -1);
        }
    }
    CHECK_IS(bytes[0], 3 + 4 * 2);
    CHECK_IS(send(out[0].fd, "x", 1, 0), 1);
    CHECK_IS(bytes[1], 0);
    out[0].parts = &(struct iovec){.iov_base = "hello", .iov_len = 5};
    out[0].count = 1;
    fs_pump_flush(pump, out, 1);
    CHECK_IS(bytes[1], 5);
    uint64_t most;
    CHECK_IS(counted(table, 0, &most), 0); /* only a thread with a part tells it */
    close(out[0].fd);
    close(out[1].fd);
    close(client);
    close(quiet);
    fs_pump_free(pump);
    fs_table_free(table);
    close(fd);
}

/* Without FS_TIMED the first bytes tell nothing, and one connection in 32 is sampled. */
static void sampled(void)
{
    int fd = bound("127.0.0.1"), clients[65];
    struct fs_table *table = table_of(fd, 0);
    for (int i = 0; i < 65; i++)
        clients[i] = -1;
    uint64_t most;
    int64_t waited = 0;
    char byte;
    clients[0] = client_of(fd);
    CHECK_IS(send(clients[0], "a", 1, 0), 1);
    sleep_ms(60);
    int connection = fs_table_accept(table, 0, 0, NULL, NULL, 0);
    CHECK(connection >= 0);
    CHECK_IS(fs_receive_first(connection, &byte, 1, &waited), 1);
    CHECK_IS(waited, -1);
    close(connection);
    CHECK_IS(counted(table, 0, &most), 1);
    CHECK(most > 40 * 1000 && most < 10 * 1000000);
    for (int i = 1; i < 65; i++) {
        clients[i] = client_of(fd);
        close(fs_table_accept(table, 0, 0, NULL, NULL, 0));
    }
    CHECK_IS(counted(table, 0, &most), 3); /* the 1st, the 33rd, the 65th */
    CHECK_IS(fs_table_read_waits(table, 2, &(struct fs_histogram){0}), -EINVAL);
    for (int i = 0; i < 65; i++)
        close(clients[i]);
    fs_table_free(table);
    close(fd);
}

static void run(void)
{
    buckets();
    timed();
    sampled();
}
