/* SPDX-License-Identifier: MIT
 *
 * Use a listener from its first call to its last, ROUNDS times, to count the kernel's leftovers.
 */
#include "device.h"

static void run(void)
{
    open_device();
    for (int i = atoi(getenv("ROUNDS")); i > 0; i--) {
        int fd = listening(i % 2 ? "127.0.0.1" : "::1");
        CHECK_IS(FS_SPAWN(fd, i % 3 - 1), 0);
        CHECK_IS(readable(fd, 0), 0);
        int client = client_of(fd), connection = taken(fd, 0);
        CHECK(connection >= 0);
        int queued = client_of(fd); /* this one is never accepted */
        struct linger reset = {.l_onoff = 1};
        setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset); /* no TIME_WAIT */
        close(client);
        close(connection);
        CHECK_IS(i % 5 ? FS_CLOSE(fd) : close(fd), 0);
        close(queued);
    }
    close(device);
}
