/* SPDX-License-Identifier: MIT
 *
 * The client for loads that wrk does not support. These loads are in pingpong.c and short.c.
 */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

int main(int argc, char **argv)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    const char *load = argc > 2 ? argv[1] : "";
    int port = argc > 2 ? atoi(argv[2]) : 0;
    if (!strcmp(load, "echo") && argc == 6)
        return pingpong_echo(port, atoi(argv[3]), atoi(argv[4]), atof(argv[5]));
    if (!strcmp(load, "websocket") && argc == 6)
        return pingpong_websocket(port, atoi(argv[3]), atoi(argv[4]), atof(argv[5]));
    if (!strcmp(load, "idle") && argc == 5)
        return pingpong_idle(port, atoi(argv[3]), atof(argv[4]));
    if (!strcmp(load, "short") && argc == 7)
        return short_run(port, atoi(argv[3]), atof(argv[4]), atoi(argv[5]), atoi(argv[6]));
    fprintf(stderr, "client echo PORT CONNECTIONS SIZE SECONDS\n"
                    "client websocket PORT CONNECTIONS SIZE SECONDS\n"
                    "client idle PORT CONNECTIONS SECONDS\n"
                    "client short PORT COUNT RATE BLOCK SEED\n");
    return 2;
}
