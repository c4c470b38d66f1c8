// SPDX-License-Identifier: GPL-2.0
/*
 * A core's local listener: a kernel socket without a file, bound to the global one's address.
 *
 * Facts: the members of a reuseport group have one address and one uid, that of their inode
 * (inet_reuseport_add_sock, net/ipv4/inet_hashtables.c); SO_REUSEPORT may be set on a socket that
 * listens already, and siblings can then join it. SK_FORCE_REUSE passes the check for conflicts at
 * bind and at listen (inet_csk_get_port): the address is the global listener's, which has it by
 * right.
 */
#include "compat/compat.h"
#include "listener.h"

#include <linux/cred.h>
#include <linux/slab.h>

/* Called when a connection comes, under the wait queue's lock, from softirq. Waking the global
 * listener's waiters would take a lock of the same class inside this one: the work does it. */
static int local_told(wait_queue_entry_t *ear, unsigned int mode, int flags, void *key)
{
	struct local *local = container_of(ear, struct local, ear);

	if (list_is_singular(&local->sock->wq.wait.head)) {
		WRITE_ONCE(local->open, true);
		smp_mb(); /* see steer_update() */
		WRITE_ONCE(local->listener->any_open, true);
	}
	if (options_stale(local->listener->global->sk, local->sock->sk) ||
	    steer_stale(local->listener))
		listener_kick(local->listener);
	if (local_is_anybodys(local)) {
		WRITE_ONCE(local->deserted, local->deserted + 1);
		listener_kick(local->listener);
	} else {
		listener_look(local->listener);
	}
	return 0;
}

/* An owner waits for its connections, or asks for one. */
void local_attend(struct local *local)
{
	WRITE_ONCE(local->deserted, 0);
	WRITE_ONCE(local->open, false);
	if (!READ_ONCE(local->live))
		listener_kick(local->listener);
}

/* Look for connections that the owners have not taken since the last look. The owners may be busy
 * for long, or have stopped without a word: a closed descriptor's epoll registration goes on as
 * long as any process holds the socket. */
void local_look(struct local *local)
{
	s64 own = atomic64_read(&local->own);
	bool left = !queue_empty(local->sock->sk);

	if (left && local->was_left && own == local->own_then)
		WRITE_ONCE(local->open, true);
	local->was_left = left;
	local->own_then = own;
	if (left)
		listener_look(local->listener);
}

static int bind_to(struct socket *sock, struct socket *global)
{
	struct sockaddr_storage address;
	int length = kernel_getsockname(global, (struct sockaddr *)&address);

	if (length < 0)
		return length;
	return kernel_bind(sock, (compat_sockaddr *)&address, length);
}

/* Listen where the global listener does: at its address, which may be another after a
 * shutdown(2). */
int local_listen(struct local *local)
{
	struct socket *sock = local->sock, *global = local->listener->global;
	int backlog = READ_ONCE(global->sk->sk_max_ack_backlog), rc = 0;
	struct cred *kernel;
	const struct cred *own;

	/* A connection has its listener's sk_reuse, and with SK_FORCE_REUSE could bind anywhere. So
	 * a local that listens is never given it, and take_local() removes it from connections that
	 * came meanwhile. */
	if (READ_ONCE(sock->sk->sk_state) == TCP_LISTEN)
		return kernel_listen(sock, backlog);
	kernel = prepare_kernel_cred(&init_task);
	if (!kernel)
		return -ENOMEM;
	/* The same scope as the global one's, or the force below is not legitimate. */
	options_before_bind(global->sk, sock->sk);
	/* The owner may have dropped the privilege that the port needed. */
	own = override_creds(kernel);
	sock->sk->sk_reuse = SK_FORCE_REUSE;
	/* A listen that failed, or SOCK_DESTROY, leaves it bound. */
	if (!inet_sk(sock->sk)->inet_num)
		rc = bind_to(sock, global);
	if (!rc)
		rc = kernel_listen(sock, backlog);
	sock->sk->sk_reuse = global->sk->sk_reuse;
	revert_creds(own);
	put_cred(kernel);
	return rc;
}

int local_create(struct fs_listener *listener, int cpu, struct local **out)
{
	struct sock *global = listener->global->sk;
	struct local *local = kzalloc(sizeof(*local), GFP_KERNEL_ACCOUNT);
	int rc;

	lockdep_assert_held(&listener->lock);
	if (!local)
		return -ENOMEM;
	local->listener = listener;
	local->cpu = cpu;
	/* Not as a kernel's socket: those do not hold their network namespace, and the connections
	 * that are accepted from them would not either (sk_clone_lock, net/core/sock.c). */
	rc = __sock_create(sock_net(global), global->sk_family, SOCK_STREAM, IPPROTO_TCP,
			   &local->sock, 0);
	if (rc) {
		kfree(local);
		return rc;
	}
	SOCK_INODE(local->sock)->i_uid = SOCK_INODE(listener->global)->i_uid;
	local->sock->sk->sk_uid = global->sk_uid;

	lock_sock(global);
	global->sk_reuseport = 1;
	release_sock(global);
	local->sock->sk->sk_reuseport = 1;
	init_waitqueue_func_entry(&local->ear, local_told);
	add_wait_queue(&local->sock->wq.wait, &local->ear);
	options_copy(listener, local);
	rc = local_listen(local);
	if (rc) {
		local_destroy(local);
		return rc;
	}
	list_add_tail_rcu(&local->node, &listener->locals);
	*out = local;
	return 0;
}

/* The local gives its port back, as the global one may: inet_put_port in tcp_set_state
 * (net/ipv4/tcp.c). */
void local_shutdown(struct local *local, int how)
{
	struct sock *sk = local->sock->sk;

	if (how != SHUT_WR) {
		lock_sock(sk);
		sk->sk_userlocks &= ~(SOCK_BINDADDR_LOCK | SOCK_BINDPORT_LOCK);
		release_sock(sk);
	}
	local->listener->base->shutdown(local->sock, how);
}

/* For a local that never was in the list, or whose listener is being released. */
void local_destroy(struct local *local)
{
	remove_wait_queue(&local->sock->wq.wait, &local->ear);
	sock_release(local->sock);
	kfree(local);
}

struct local *local_of_cpu(struct fs_listener *listener, int cpu)
{
	struct local *local;

	list_for_each_entry(local, &listener->locals, node)
		if (local->cpu == cpu)
			return local;
	return NULL;
}
