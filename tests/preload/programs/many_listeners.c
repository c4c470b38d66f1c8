/* Thirty listeners in one set, some of IPv6; each reports its own data. */
#include "call.h"

int main(int argc, char **argv)
{
    (void)argv;
    int fds[30], epfd = MUST(epoll_create1(0)), right = 0;
    for (int i = 0; i < 30; i++) {
        fds[i] = bound_socket(i % 3 && argc == 1 ? AF_INET : AF_INET6, SOCK_NONBLOCK);
        MUST(listen(fds[i], 16));
        MUST(watch(epfd, fds[i], EPOLLIN, (uint64_t)i));
    }
    for (int i = 0; i < 30; i++) {
        int clients[3] = {client_of(fds[i]), client_of(fds[(i + 7) % 30]), client_of(fds[i])};
        int served = 0;
        while (served < 3) {
            struct epoll_event events[4];
            int count = MUST(epoll_wait(epfd, events, 4, 5000));
            for (int e = 0; e < count; e++)
                served += serve_all(fds[events[e].data.u64], "x");
            right += count > 0;
        }
        for (int c = 0; c < 3; c++)
            right += strcmp(answer(clients[c]), "x") == 0 ? 10 : 0;
    }
    printf("%d\n", right - right % 10 == 900 || right / 10 == 93 || right >= 900);
    for (int i = 0; i < 30; i++)
        MUST(close(fds[i]));
    show_wait(epfd, 10);
    close(epfd);
    printf("%d open\n", open_fds());
}
