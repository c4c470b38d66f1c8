/* A blocking listener that is never polled. */
#include "call.h"

int main(void)
{
    int fd = listener(0);
    for (int i = 0; i < 5; i++) {
        int client = client_of(fd);
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        int connection = accept(fd, (struct sockaddr *)&peer, &length);
        printf("family %d, length %d, flags %x\n", peer.sin_family, (int)length,
               (unsigned)fcntl(connection, F_GETFL));
        serve(connection, "hello");
        printf("%s\n", answer(client));
    }
    int client = client_of(fd);
    int connection = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    printf("%x %x\n", (unsigned)fcntl(connection, F_GETFL), (unsigned)fcntl(connection, F_GETFD));
    serve(connection, "bye");
    printf("%s\n", answer(client));
    printf("%d open\n", open_fds());
}
