/* SPDX-License-Identifier: MIT
 *
 * The ioctl interface of /dev/fastsocket, shared with the kernel: numbers and layout, nothing else.
 * Binary compatible with the interface published in 2014. Usable from kernel and user space.
 *
 * SOCKET and ACCEPT return the new descriptor, the others 0; errors are the BSD call's own errno.
 */
#ifndef FASTSOCKET_UAPI_H
#define FASTSOCKET_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define FSOCKET_DEVICE   "/dev/fastsocket"
#define FSOCKET_IOC_TYPE 0xf5

#define FSOCKET_IOC_SOCKET           _IO(FSOCKET_IOC_TYPE, 1)
#define FSOCKET_IOC_LISTEN           _IO(FSOCKET_IOC_TYPE, 2)
#define FSOCKET_IOC_ACCEPT           _IO(FSOCKET_IOC_TYPE, 3)
#define FSOCKET_IOC_CLOSE            _IO(FSOCKET_IOC_TYPE, 4)
#define FSOCKET_IOC_EPOLL_CTL        _IO(FSOCKET_IOC_TYPE, 5) /* reserved */
#define FSOCKET_IOC_SPAWN_LISTEN     _IO(FSOCKET_IOC_TYPE, 6)
#define FSOCKET_IOC_SHUTDOWN_LISTEN  _IO(FSOCKET_IOC_TYPE, 7)
#define FSOCKET_IOC_SPAWN_ALL_LISTEN _IO(FSOCKET_IOC_TYPE, 8)

struct epoll_event;

/* One argument for all operations, natural alignment; `op` is read by the operation that owns it.
 */
struct fsocket_ioctl_arg {
    __u32 fd;
    __u32 backlog;
    union {
        struct {
            void *sockaddr;
            int *sockaddr_len;
            int flags; /* SOCK_NONBLOCK, SOCK_CLOEXEC */
        } accept;
        struct {
            int cpu; /* -1: the channel chooses the core */
        } spawn;
        struct {
            char *buf;
            __u32 buf_len;
        } io;
        struct {
            __u32 family;
            __u32 type;
            __u32 protocol;
        } socket;
        struct {
            int how;
        } shutdown;
        struct {
            __u32 epoll_fd;
            __u32 size;
            __u32 ep_ctl_cmd;
            __u32 time_out;
            struct epoll_event *ev;
        } epoll;
    } op;
};

#endif
