/* SPDX-License-Identifier: GPL-2.0
 *
 * Differences between the kernels that we build for: 6.1 and later.
 */
#ifndef FASTSOCKET_COMPAT_H
#define FASTSOCKET_COMPAT_H

#include <linux/net.h>
#include <linux/poll.h>
#include <linux/version.h>
#include <net/inet_sock.h>

/* 6.10: accept's arguments became a struct. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
static inline int compat_accept(const struct proto_ops *ops, struct socket *sock,
				struct socket *newsock, int flags)
{
	struct proto_accept_arg arg = {.flags = flags, .is_empty = -1};

	return ops->accept(sock, newsock, &arg);
}
#define COMPAT_ACCEPT(name, function)                                                              \
	static int name(struct socket *sock, struct socket *newsock, struct proto_accept_arg *arg) \
	{                                                                                          \
		return function(sock, newsock, arg->flags);                                        \
	}
#else
static inline int compat_accept(const struct proto_ops *ops, struct socket *sock,
				struct socket *newsock, int flags)
{
	return ops->accept(sock, newsock, flags, false);
}
#define COMPAT_ACCEPT(name, function)                                                              \
	static int name(struct socket *sock, struct socket *newsock, int flags, bool kern)         \
	{                                                                                          \
		return function(sock, newsock, flags);                                             \
	}
#endif

/* 7.2: poll_does_not_wait is gone; poll_wait() makes this very test. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 2, 0)
static inline bool compat_poll_registers(const poll_table *wait)
{
	return wait && wait->_qproc;
}
#else
static inline bool compat_poll_registers(const poll_table *wait)
{
	return !poll_does_not_wait(wait);
}
#endif

/* 6.19: addresses whose size is given separately have a type of their own. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
typedef struct sockaddr_unsized compat_sockaddr;
#else
typedef struct sockaddr compat_sockaddr;
#endif

/* 6.16: sched_process_exit tells whether the whole process ends. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
#define COMPAT_EXIT_ARGUMENTS void *data, struct task_struct *task, bool group_dead
#else
#define COMPAT_EXIT_ARGUMENTS void *data, struct task_struct *task
#endif

/* 6.6: inet_sock's bit fields became atomic flags. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define compat_copy_inet_flag(FLAG, field, from, to)                                               \
	inet_assign_bit(FLAG, to, inet_test_bit(FLAG, from))
#else
#define compat_copy_inet_flag(FLAG, field, from, to) (inet_sk(to)->field = inet_sk(from)->field)
#endif

#endif
