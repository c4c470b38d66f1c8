/* SPDX-License-Identifier: MIT
 *
 * The channel: the backend that opens, the reason that it gives, and the same round on each backend
 * that works here.
 */
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>

static void device_says_what_is_wrong(void)
{
    struct fs_channel *channel = NULL;
    char why[FS_WHY_MAX];
    struct fs_channel_options absent = {.device = "/nonexistent/fastsocket"};
    CHECK_IS(fs_channel_open(&channel, FS_BACKEND_DEVICE, &absent, why), -ENOENT);
    CHECK(strstr(why, "/nonexistent/fastsocket does not exist"));

    struct fs_channel_options foreign = {.device = "/dev/null"};
    CHECK_IS(fs_channel_open(&channel, FS_BACKEND_DEVICE, &foreign, why), -ENOTTY);
    CHECK(strcmp(why, "/dev/null is not the fastsocket device") == 0);

    if (geteuid() == 0) { /* a user that may not open it: only root can become another user */
        char path[] = "/tmp/fastsocket-XXXXXX";
        int fd = mkstemp(path);
        CHECK(fd >= 0 && fchmod(fd, 0600) == 0);
        close(fd);
        pid_t pid = fork();
        if (pid == 0) {
            struct fs_channel_options forbidden = {.device = path};
            CHECK(setuid(65534) == 0);
            CHECK_IS(fs_channel_open(&channel, FS_BACKEND_DEVICE, &forbidden, why), -EACCES);
            CHECK(strstr(why, "may not be opened by uid 65534"));
            _exit(0);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        unlink(path);
        CHECK_IS(status, 0);
    }
}

static void auto_falls_back_and_says_why(void)
{
    struct fs_channel *channel = NULL;
    char why[FS_WHY_MAX];
    struct fs_channel_options options = {.device = "/dev/null"};
    CHECK_IS(fs_channel_open(&channel, FS_BACKEND_AUTO, &options, why), 0);
    CHECK_IS(fs_channel_backend(channel), FS_BACKEND_REUSEPORT);
    CHECK(strstr(why, "not the fastsocket device"));
    fs_channel_free(channel);

    options.slots = FS_SLOTS_MAX + 1;
    CHECK_IS(fs_channel_open(&channel, FS_BACKEND_AUTO, &options, why), -EINVAL);
    CHECK_IS(fs_channel_open(&channel, (enum fs_backend)9, NULL, why), -EINVAL);
}

/* socket, listen, spawn, accept in a child too, shutdown, close: as a program would. */
static void round_trip(enum fs_backend backend)
{
    struct fs_channel *channel = NULL;
    char why[FS_WHY_MAX];
    struct fs_channel_options options = {.slots = 2, .steer = FS_STEER_SPREAD};
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    CHECK_IS(fs_channel_open(&channel, backend, &options, why), 0);
    int fd = fs_channel_socket(channel, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&any, sizeof any) == 0);
    CHECK_IS(fs_channel_listen(channel, fd, 64), 0);
    CHECK_IS(fs_channel_listen(channel, fd, 128), 0);
    CHECK_IS(fs_channel_spawn_listen(channel, fd, -1), 0);

    int client = client_of(fd);
    struct sockaddr_in peer, name;
    socklen_t len = sizeof peer, name_len = sizeof name;
    /* The descriptor is a blocking one, and so is this accept. */
    int connection = fs_channel_accept(channel, fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
    CHECK(connection >= 0);
    CHECK(getsockname(client, (struct sockaddr *)&name, &name_len) == 0);
    CHECK_IS(peer.sin_port, name.sin_port);
    close(connection);
    close(client);

    pid_t pid = fork();
    if (pid == 0) {
        CHECK_IS(fs_channel_spawn_all_listen(channel), 0);
        for (int i = 0; i < 8; i++) /* at most 8 of the 16 clients below: the parent takes 8, too */
            if ((connection = fs_channel_accept(channel, fd, NULL, NULL, 0)) >= 0)
                close(connection);
        pause();
    }
    int clients[16];
    for (int i = 0; i < 16; i++)
        clients[i] = client_of(fd);
    usleep(200000);
    kill(pid, SIGKILL);
    reap_child(pid);
    /* All connections that the child had not taken are the parent's now: none is stranded in the
     * child's slot. */
    for (int i = 0; i < 8; i++) {
        connection = fs_channel_accept(channel, fd, NULL, NULL, SOCK_CLOEXEC);
        CHECK(connection >= 0);
        close(connection);
    }
    for (int i = 0; i < 16; i++)
        close(clients[i]);
    CHECK_IS(fs_channel_spawn_listen(channel, -1, 0), -EBADF);
    CHECK_IS(fs_channel_listen(channel, -1, 1), -EBADF);
    CHECK_IS(fs_channel_shutdown_listen(channel, fd, SHUT_RD), 0);
    CHECK_IS(fs_channel_accept(channel, fd, NULL, NULL, 0), -EINVAL);
    CHECK_IS(fs_channel_close(channel, fd), 0);
    CHECK_IS(fs_channel_close(channel, fd), -EBADF);
    fs_channel_free(channel);
}

/* A channel that is closed takes no more connections, and leaves the descriptor as it was. */
static void closing_steers_away(void)
{
    struct fs_channel *channel = NULL;
    char why[FS_WHY_MAX];
    struct fs_channel_options options = {.slots = 2, .steer = FS_STEER_SPREAD};
    CHECK_IS(fs_channel_open(&channel, FS_BACKEND_REUSEPORT, &options, why), 0);
    int fd = bound("127.0.0.1");
    CHECK(fcntl(fd, F_SETFL, 0) == 0);
    CHECK_IS(fs_channel_listen(channel, fd, 64), 0);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    int told[2], clients[40];
    char byte;
    CHECK(pipe(told) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_IS(fs_channel_spawn_listen(channel, fd, -1), 0);
        fs_channel_free(channel);
        CHECK(write(told[1], "!", 1) == 1);
        pause();
    }
    CHECK(read(told[0], &byte, 1) == 1);
    CHECK_IS(fs_channel_spawn_listen(channel, fd, -1), 0);
    for (int i = 0; i < 40; i++)
        clients[i] = client_of(fd);
    for (int i = 0; i < 40; i++) {
        int connection = fs_channel_accept(channel, fd, NULL, NULL, SOCK_CLOEXEC);
        CHECK(connection >= 0);
        close(connection);
        close(clients[i]);
    }
    kill(pid, SIGKILL);
    reap_child(pid);
    close(told[0]), close(told[1]);
    fs_channel_free(channel);
    CHECK(!(fcntl(fd, F_GETFL) & O_NONBLOCK));
    close(fd);
}

/* With more processes than slots, a process without a slot helps those that have one. */
static void a_process_without_a_slot_helps(void)
{
    struct fs_channel *channel = NULL;
    char why[FS_WHY_MAX];
    struct fs_channel_options options = {.slots = 1, .steer = FS_STEER_SPREAD};
    CHECK_IS(fs_channel_open(&channel, FS_BACKEND_REUSEPORT, &options, why), 0);
    int fd = bound("127.0.0.1");
    CHECK_IS(fs_channel_listen(channel, fd, 64), 0);
    CHECK_IS(fs_channel_spawn_listen(channel, fd, -1), 0);
    int client = client_of(fd);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_IS(fs_channel_spawn_listen(channel, fd, -1), 0);
        CHECK(fs_channel_accept(channel, fd, NULL, NULL, SOCK_CLOEXEC) >= 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_IS(status, 0);
    close(client);

    /* The descriptor's number is another socket's: the channel no longer uses it. */
    int other = bound("127.0.0.1");
    CHECK(dup2(other, fd) == fd);
    close(other);
    CHECK_IS(fs_channel_accept(channel, fd, NULL, NULL, 0), -EINVAL);
    fs_channel_free(channel);
    close(fd);
}

static void run(void)
{
    closing_steers_away();
    a_process_without_a_slot_helps();
    device_says_what_is_wrong();
    auto_falls_back_and_says_why();
    round_trip(FS_BACKEND_REUSEPORT);
    round_trip(FS_BACKEND_OFF);
}
