/* The program replaces itself with a cleaned environment, as nginx does for USR2, and keeps its
 * listener by number; the successor serves the waiting connections. */
#include "call.h"

int main(int argc, char **argv)
{
    if (argc == 1) {
        int fd = listener(SOCK_NONBLOCK), epfd = MUST(epoll_create1(EPOLL_CLOEXEC));
        MUST(watch(epfd, fd, EPOLLIN, 1));
        show_wait(epfd, 10);
        char number[16], clients[3][16];
        for (int i = 0; i < 3; i++) {
            int client = client_of(fd);
            MUST(fcntl(client, F_SETFD, 0));
            sprintf(clients[i], "%d", client);
        }
        sprintf(number, "%d", fd);
        char *clean[] = {"PATH=/bin:/usr/bin", NULL};
        fflush(stdout);
        execle("/proc/self/exe", argv[0], number, clients[0], clients[1], clients[2], (char *)NULL,
               clean);
        return 1;
    }
    int fd = atoi(argv[1]), epfd = MUST(epoll_create1(EPOLL_CLOEXEC));
    MUST(listen(fd, 64));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    int served = 0;
    while (served < 3 && show_wait(epfd, 5000) == 1)
        served += serve_all(fd, "successor");
    for (int i = 2; i < argc; i++)
        printf("%s\n", answer(atoi(argv[i])));
    int client = client_of(fd);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "new"));
    printf("%s\n", answer(client));
    printf("%d open\n", open_fds());
}
