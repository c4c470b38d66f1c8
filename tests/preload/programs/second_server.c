/* A second server on the address gets the errors of bind(2) and listen(2). */
#include "call.h"

int main(void)
{
    int on = 1, fd = listener(SOCK_NONBLOCK);
    socklen_t length;
    struct sockaddr_storage name = name_of(fd, &length);
    for (int reuse = 0; reuse < 2; reuse++) {
        int other = MUST(socket(AF_INET, SOCK_STREAM, 0));
        if (reuse)
            MUST(setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
        printf("bind: %d %d\n", bind(other, (struct sockaddr *)&name, length), errno == EADDRINUSE);
        close(other);
    }
    close(fd);
    /* Both are bound before either listens: only the first may listen. */
    int first = bound_socket(AF_INET, SOCK_NONBLOCK);
    name = name_of(first, &length);
    int second = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(setsockopt(second, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(bind(second, (struct sockaddr *)&name, length));
    printf("listen: %d\n", listen(first, 16));
    printf("listen: %d %d\n", listen(second, 16), errno == EADDRINUSE);
    close(first);
    printf("listen: %d\n", listen(second, 16));
    printf("%d open\n", open_fds());
}
