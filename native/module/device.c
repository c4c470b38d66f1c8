// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/fastsocket: the BSD calls, and the two calls that are Fastsocket's own, as ioctls. It acts
 * on the caller's descriptors only.
 */
#include "compat/compat.h"
#include "listener.h"

#include <fastsocket/uapi.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

enum { FLAGS = SOCK_CLOEXEC | SOCK_NONBLOCK };

static long install(int fd, struct file *file)
{
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	fd_install(fd, file);
	return fd;
}

/* socket(2) */
static long call_socket(const struct fsocket_ioctl_arg *arg)
{
	int flags = arg->op.socket.type & ~SOCK_TYPE_MASK;
	struct socket *sock;
	int fd, rc;

	if (flags & ~FLAGS)
		return -EINVAL;
	rc = sock_create(arg->op.socket.family, arg->op.socket.type & SOCK_TYPE_MASK,
			 arg->op.socket.protocol, &sock);
	if (rc < 0)
		return rc;
	fd = get_unused_fd_flags(flags);
	if (fd < 0) {
		sock_release(sock);
		return fd;
	}
	return install(fd, sock_alloc_file(sock, flags, NULL));
}

/* listen(2). A socket that can have local listeners is marked as one for SPAWN_ALL_LISTEN. */
static long call_listen(struct socket *sock, const struct fsocket_ioctl_arg *arg)
{
	unsigned int limit = READ_ONCE(sock_net(sock->sk)->core.sysctl_somaxconn);
	struct fs_listener *listener;
	int rc = READ_ONCE(sock->ops)->listen(sock, min(arg->backlog, limit));

	if (!rc)
		listener_hook(sock, &listener); /* a socket that cannot be one listens, too */
	return rc;
}

/* Do with the address as accept4(2) does: the length in is the room for it, the length out is that
 * of the address. */
static int put_address(struct socket *sock, void __user *user, int __user *user_length)
{
	struct sockaddr_storage address;
	int length, room;

	if (!user)
		return 0;
	length = READ_ONCE(sock->ops)->getname(sock, (struct sockaddr *)&address, 2);
	if (length < 0)
		return -ECONNABORTED;
	if (get_user(room, user_length))
		return -EFAULT;
	if (room < 0)
		return -EINVAL;
	if (copy_to_user(user, &address, min(room, length)) || put_user(length, user_length))
		return -EFAULT;
	return 0;
}

static struct file *accept_file(struct socket *sock, const struct fsocket_ioctl_arg *arg)
{
	const struct proto_ops *ops = READ_ONCE(sock->ops);
	struct socket *newsock = sock_alloc();
	struct file *file;
	int rc;

	if (!newsock)
		return ERR_PTR(-ENFILE);
	newsock->type = sock->type;
	newsock->ops = ops;
	__module_get(ops->owner);
	file = sock_alloc_file(newsock, arg->op.accept.flags, sock->sk->sk_prot_creator->name);
	if (IS_ERR(file))
		return file;
	rc = compat_accept(ops, sock, newsock, sock->file->f_flags);
	if (!rc)
		rc = put_address(newsock, (void __user *)arg->op.accept.sockaddr,
				 (int __user *)arg->op.accept.sockaddr_len);
	if (rc < 0) {
		fput(file);
		return ERR_PTR(rc);
	}
	return file;
}

/* accept4(2) */
static long call_accept(struct socket *sock, const struct fsocket_ioctl_arg *arg)
{
	int fd;

	if (arg->op.accept.flags & ~FLAGS)
		return -EINVAL;
	fd = get_unused_fd_flags(arg->op.accept.flags);
	return fd < 0 ? fd : install(fd, accept_file(sock, arg));
}

static long call_spawn(struct socket *sock, const struct fsocket_ioctl_arg *arg)
{
	struct fs_listener *listener;
	int rc;

	rc = listener_hook(sock, &listener);
	return rc ? rc : listener_spawn(listener, arg->op.spawn.cpu);
}

/* shutdown(2) */
static long call_shutdown(struct socket *sock, const struct fsocket_ioctl_arg *arg)
{
	return READ_ONCE(sock->ops)->shutdown(sock, arg->op.shutdown.how);
}

/* close(2) */
static long call_close(const struct fsocket_ioctl_arg *arg)
{
	int rc;
	struct socket *sock = sockfd_lookup(arg->fd, &rc);

	if (sock) {
		if (listener_of(sock))
			listener_leave(listener_of(sock));
		sockfd_put(sock);
	}
	rc = close_fd(arg->fd);
	/* As close(2): it must not be called again, no matter which error it returns. */
	if (rc == -ERESTARTSYS || rc == -ERESTARTNOINTR || rc == -ERESTARTNOHAND ||
	    rc == -ERESTART_RESTARTBLOCK)
		rc = -EINTR;
	return rc;
}

/* ---- every listener that this process holds */

enum { BATCH = 16 };

struct batch {
	struct file *files[BATCH];
	unsigned int count, next_fd;
};

/* Called under the lock of the descriptor table. */
static int gather(const void *context, struct file *file, unsigned int fd)
{
	struct batch *batch = (void *)context;
	struct socket *sock = sock_from_file(file);

	if (batch->count == BATCH)
		return 1;
	batch->next_fd = fd + 1;
	if (sock && listener_of(sock) && READ_ONCE(sock->sk->sk_state) == TCP_LISTEN)
		batch->files[batch->count++] = get_file(file);
	return 0;
}

static long call_spawn_all(void)
{
	struct batch batch = {.next_fd = 0};
	long rc = 0;
	int more;

	do {
		batch.count = 0;
		more = iterate_fd(current->files, batch.next_fd, gather, &batch);
		for (unsigned int i = 0; i < batch.count; i++) {
			int failed =
				listener_spawn(listener_of(sock_from_file(batch.files[i])), -1);

			rc = rc ? rc : failed;
			fput(batch.files[i]);
		}
	} while (more);
	return rc;
}

/* ---- */

typedef long socket_operation(struct socket *sock, const struct fsocket_ioctl_arg *arg);

static long with_socket(socket_operation *call, const struct fsocket_ioctl_arg *arg)
{
	int rc;
	struct socket *sock = sockfd_lookup(arg->fd, &rc);
	long result;

	if (!sock)
		return rc;
	result = call(sock, arg);
	sockfd_put(sock);
	return result;
}

static long device_ioctl(struct file *file, unsigned int command, unsigned long user)
{
	struct fsocket_ioctl_arg arg;
	long rc;

	switch (command) {
	case FSOCKET_IOC_SPAWN_ALL_LISTEN: /* takes no argument */
		return call_spawn_all();
	case FSOCKET_IOC_SOCKET:
	case FSOCKET_IOC_LISTEN:
	case FSOCKET_IOC_ACCEPT:
	case FSOCKET_IOC_CLOSE:
	case FSOCKET_IOC_SPAWN_LISTEN:
	case FSOCKET_IOC_SHUTDOWN_LISTEN:
		break;
	default:
		return -ENOTTY;
	}
	if (copy_from_user(&arg, (void __user *)user, sizeof(arg)))
		return -EFAULT;
	switch (command) {
	case FSOCKET_IOC_SOCKET:
		return call_socket(&arg);
	case FSOCKET_IOC_CLOSE:
		return call_close(&arg);
	case FSOCKET_IOC_LISTEN:
		return with_socket(call_listen, &arg);
	case FSOCKET_IOC_ACCEPT:
		rc = with_socket(call_accept, &arg);
		/* accept4(2) looks at its flags before the kind of file. */
		return rc == -ENOTSOCK && (arg.op.accept.flags & ~FLAGS) ? -EINVAL : rc;
	case FSOCKET_IOC_SPAWN_LISTEN:
		return with_socket(call_spawn, &arg);
	default:
		return with_socket(call_shutdown, &arg);
	}
}

static const struct file_operations device_ops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
	.llseek = noop_llseek,
};

/* Open to all users, as the BSD calls are, but security modules do not see these calls. A udev rule
 * may set another mode. */
static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "fastsocket",
	.fops = &device_ops,
	.mode = 0666,
};

int device_init(void)
{
	BUILD_BUG_ON(IS_ENABLED(CONFIG_64BIT) && sizeof(struct fsocket_ioctl_arg) != 32);
	return misc_register(&device);
}

void device_uninit(void)
{
	misc_deregister(&device);
}
