/* SPDX-License-Identifier: MIT
 *
 * The ABI as a C program sees it, one "name value" per line; tests/unit/test_uapi.py compares it
 * with the view of cffi.
 */
#include <fastsocket/uapi.h>

#include <stddef.h>
#include <stdio.h>

#define NUMBER(name)  printf("%s %lu\n", #name, (unsigned long)(name))
#define OFFSET(field) printf("op.%s %zu\n", #field, offsetof(struct fsocket_ioctl_arg, op.field))

_Static_assert(FSOCKET_IOC_SOCKET == 0xf501, "as published in 2014");
_Static_assert(sizeof(void *) != 8 || sizeof(struct fsocket_ioctl_arg) == 32, "natural alignment");

int main(void)
{
    NUMBER(FSOCKET_IOC_SOCKET);
    NUMBER(FSOCKET_IOC_LISTEN);
    NUMBER(FSOCKET_IOC_ACCEPT);
    NUMBER(FSOCKET_IOC_CLOSE);
    NUMBER(FSOCKET_IOC_EPOLL_CTL);
    NUMBER(FSOCKET_IOC_SPAWN_LISTEN);
    NUMBER(FSOCKET_IOC_SHUTDOWN_LISTEN);
    NUMBER(FSOCKET_IOC_SPAWN_ALL_LISTEN);
    printf("sizeof %zu\n", sizeof(struct fsocket_ioctl_arg));
    printf("fd %zu\n", offsetof(struct fsocket_ioctl_arg, fd));
    printf("backlog %zu\n", offsetof(struct fsocket_ioctl_arg, backlog));
    OFFSET(accept.sockaddr);
    OFFSET(accept.sockaddr_len);
    OFFSET(accept.flags);
    OFFSET(spawn.cpu);
    OFFSET(io.buf);
    OFFSET(io.buf_len);
    OFFSET(socket.family);
    OFFSET(socket.type);
    OFFSET(socket.protocol);
    OFFSET(shutdown.how);
    OFFSET(epoll.epoll_fd);
    OFFSET(epoll.size);
    OFFSET(epoll.ep_ctl_cmd);
    OFFSET(epoll.time_out);
    OFFSET(epoll.ev);
    return 0;
}
