/* Listener and set with numbers above 65,536. */
#include "call.h"

int main(void)
{
    struct rlimit limit = {70100, 70100};
    printf("limit: %d\n", setrlimit(RLIMIT_NOFILE, &limit));
    int low = bound_socket(AF_INET, SOCK_NONBLOCK);
    int fd = MUST(fcntl(low, F_DUPFD, 70000)), epfd = MUST(fcntl(epoll_create1(0), F_DUPFD, 70010));
    close(low);
    MUST(listen(fd, 16));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    printf("%d %d\n", fd, epfd);
    for (int i = 0; i < 3; i++) {
        int client = client_of(fd);
        show_wait(epfd, 5000);
        printf("served %d\n", serve_all(fd, "high"));
        printf("%s\n", answer(client));
    }
    close(fd);
}
