/* Each worker binds a socket of its own with SO_REUSEPORT: every worker gets connections. */
#include "call.h"

enum { WORKERS = 4 };

int main(void)
{
    int on = 1, counts[WORKERS] = {0}, starved = 0, good = 0;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof name;
    int holder = MUST(socket(AF_INET, SOCK_STREAM, 0)), told[2], control[2];
    MUST(setsockopt(holder, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(setsockopt(holder, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
    MUST(bind(holder, (struct sockaddr *)&name, sizeof name));
    MUST(getsockname(holder, (struct sockaddr *)&name, &length));
    MUST(pipe(told));
    MUST(pipe(control));
    for (int i = 0; i < WORKERS; i++) {
        if (MUST(fork()) == 0) {
            char who[2] = {(char)('0' + i), 0};
            int fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
            MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
            MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
            MUST(bind(fd, (struct sockaddr *)&name, sizeof name));
            MUST(listen(fd, 64));
            MUST(write(told[1], "x", 1));
            close(control[1]);
            worker(fd, control[0], who);
            _exit(0);
        }
    }
    char bytes[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        MUST(read(told[0], bytes + i, 1));
    for (int i = 0; i < 400; i++) {
        int client = MUST(socket(AF_INET, SOCK_STREAM, 0));
        MUST(connect(client, (struct sockaddr *)&name, length));
        const char *who = answer(client);
        good += strlen(who) == 1;
        counts[(who[0] - '0') & 3]++;
    }
    for (int i = 0; i < WORKERS; i++)
        starved += counts[i] < 40;
    printf("%d served, %d workers starve\n", good, starved);
    close(control[1]);
    for (int i = 0; i < WORKERS; i++)
        wait(NULL);
}
