// SPDX-License-Identifier: GPL-2.0
/*
 * Waiting for connections and taking them: poll and accept of the global listener's file.
 *
 * A process with a local listener takes from it, from locals that are open to any process, and from
 * the global one. A process that has none, or does not wait on its own (its epoll set is another
 * process's), takes from all: so no wake-up is for nothing, and no connection is left behind.
 *
 * Each waiter has two wait queues at most: io_uring allows no more (io_uring/poll.c).
 */
#include "compat/compat.h"
#include "listener.h"

#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>

enum { STREAK_MAX = 16 }; /* connections from the own queue, until other queues have a turn */

static struct sock *sk_of(const struct local *local)
{
	return local->sock->sk;
}

/* Whether connections wait at other locals that the process may take from. */
static bool others_ready(struct fs_listener *listener, const struct local *own, bool narrow)
{
	struct local *local;
	bool ready = false;

	if (narrow && !READ_ONCE(listener->any_open))
		return false;
	rcu_read_lock();
	list_for_each_entry_rcu(local, &listener->locals, node)
		if (local != own && (!narrow || local_is_anybodys(local)) &&
		    !queue_empty(sk_of(local)))
			ready = true;
	rcu_read_unlock();
	return ready;
}

/* The process's local listener. *narrow: of other locals, the process looks only at those that are
 * open to any process. */
static struct local *find_own(struct fs_listener *listener, bool registers, bool *narrow)
{
	struct local *own = NULL;
	struct owner *owner;

	*narrow = false;
	rcu_read_lock();
	owner = owner_find(listener);
	if (owner) {
		own = READ_ONCE(owner->local);
		if (!READ_ONCE(owner->active)) {
			WRITE_ONCE(owner->active, true);
			listener_kick(listener);
		}
		if (registers)
			WRITE_ONCE(owner->registered, true);
		*narrow = READ_ONCE(owner->registered);
	}
	rcu_read_unlock();
	return own; /* it lives as long as the listener, whose file the caller holds */
}

__poll_t listener_poll(struct file *file, struct socket *sock, struct poll_table_struct *wait)
{
	struct fs_listener *listener = listener_of(sock);
	bool narrow, registers = compat_poll_registers(wait);
	struct local *own;
	__poll_t mask;

	if (!listener)
		return listener_base(sock)->poll(file, sock, wait);
	own = find_own(listener, registers, &narrow);
	if (own && registers) {
		sock_poll_wait(file, own->sock, wait);
		local_attend(own);
	}
	mask = listener->base->poll(file, sock, wait);
	if ((own && !queue_empty(sk_of(own))) || others_ready(listener, own, narrow))
		mask |= EPOLLIN | EPOLLRDNORM;
	return mask;
}

/* A connection's source is counted for the core of the process that took it. */
enum source { FROM_OWN, FROM_GLOBAL, FROM_ANOTHER };

static void count(struct fs_listener *listener, struct local *own, enum source source)
{
	if (source == FROM_OWN)
		atomic64_inc(&own->own);
	else if (source == FROM_GLOBAL)
		atomic64_inc(own ? &own->taken : &listener->taken);
	else
		atomic64_inc(own ? &own->adopted : &listener->adopted);
}

/* Take SK_FORCE_REUSE away from a connection: see local_listen(). */
static void without_force(const struct sock *global, struct sock *connection)
{
	if (likely(connection->sk_reuse != SK_FORCE_REUSE))
		return;
	lock_sock(connection);
	connection->sk_reuse = global->sk_reuse;
	release_sock(connection);
}

static int take_local(struct fs_listener *listener, struct local *local, struct socket *newsock)
{
	int rc;

	if (queue_empty(sk_of(local)))
		return -EAGAIN;
	rc = compat_accept(listener->base, local->sock, newsock, O_NONBLOCK);
	if (rc) /* after any error here, the answer is the global listener's */
		return -EAGAIN;
	without_force(listener->global->sk, newsock->sk);
	if (options_stale(listener->global->sk, sk_of(local))) {
		options_mend(listener->global->sk, newsock->sk);
		listener_kick(listener);
	}
	return 0;
}

static int take_other(struct fs_listener *listener, const struct local *own, bool narrow,
		      struct socket *newsock)
{
	struct local *local;
	int rc = -EAGAIN;

	if (narrow && !READ_ONCE(listener->any_open))
		return rc;
	/* Locals are only ever added, and live as long as the listener: sleeping between is fine.
	 */
	rcu_read_lock();
	list_for_each_entry_rcu(local, &listener->locals, node) {
		if (local == own || (narrow && !local_is_anybodys(local)) ||
		    queue_empty(sk_of(local)))
			continue;
		rcu_read_unlock();
		rc = take_local(listener, local, newsock);
		rcu_read_lock();
		if (!rc)
			break;
	}
	rcu_read_unlock();
	return rc;
}

static int take_global(struct fs_listener *listener, struct socket *newsock)
{
	return compat_accept(listener->base, listener->global, newsock, O_NONBLOCK);
}

/* Take one connection, without waiting. The own queue comes first, but not forever. */
static int take(struct fs_listener *listener, struct local *own, bool narrow, bool own_first,
		struct socket *newsock, enum source *source)
{
	int rc = -EAGAIN;

	*source = FROM_OWN;
	if (own && own_first)
		rc = take_local(listener, own, newsock);
	if (rc == -EAGAIN) {
		*source = FROM_ANOTHER;
		rc = take_other(listener, own, narrow, newsock);
	}
	if (rc == -EAGAIN) {
		*source = FROM_GLOBAL;
		rc = take_global(listener, newsock);
	}
	if (rc == -EAGAIN && own && !own_first) {
		*source = FROM_OWN;
		rc = take_local(listener, own, newsock);
	}
	return rc;
}

static bool nothing_there(struct fs_listener *listener, const struct local *own, bool narrow)
{
	return queue_empty(listener->global->sk) && (!own || queue_empty(sk_of(own))) &&
	       !others_ready(listener, own, narrow) &&
	       READ_ONCE(listener->global->sk->sk_state) == TCP_LISTEN;
}

/* Wait until a connection may be there. Returns the time that is left. */
static long wait_once(struct fs_listener *listener, struct local *own, bool narrow, long timeout)
{
	DEFINE_WAIT(on_global);
	DEFINE_WAIT(on_own);

	if (own) {
		prepare_to_wait_exclusive(sk_sleep(sk_of(own)), &on_own, TASK_INTERRUPTIBLE);
		local_attend(own);
	}
	prepare_to_wait_exclusive(sk_sleep(listener->global->sk), &on_global, TASK_INTERRUPTIBLE);
	if (nothing_there(listener, own, narrow))
		timeout = schedule_timeout(timeout);
	finish_wait(sk_sleep(listener->global->sk), &on_global);
	if (own)
		finish_wait(sk_sleep(sk_of(own)), &on_own);
	return timeout;
}

static void wake_next(struct sock *sk)
{
	if (!queue_empty(sk))
		wake_up_interruptible_poll(sk_sleep(sk), EPOLLIN | EPOLLRDNORM);
}

/* Whether to look at the own queue first: not after STREAK_MAX connections from it in a row. */
static bool own_first(struct fs_listener *listener)
{
	struct owner *owner;
	bool first = true;

	rcu_read_lock();
	owner = owner_find(listener);
	if (owner)
		first = READ_ONCE(owner->streak) < STREAK_MAX;
	rcu_read_unlock();
	return first;
}

static void note_streak(struct fs_listener *listener, bool from_own)
{
	struct owner *owner;

	rcu_read_lock();
	owner = owner_find(listener);
	if (owner) /* threads of one process may miscount: that only moves a queue's turn */
		WRITE_ONCE(owner->streak,
			   from_own && owner->streak < STREAK_MAX ? owner->streak + 1 : 0);
	rcu_read_unlock();
}

int listener_accept(struct socket *sock, struct socket *newsock, int flags)
{
	struct fs_listener *listener = listener_of(sock);
	const struct proto_ops *base = listener_base(sock);
	bool narrow, nonblock = flags & O_NONBLOCK;
	long timeout = sock_rcvtimeo(sock->sk, nonblock);
	enum source source;
	struct local *own;
	int rc;

	/* Give the new socket the protocol's ops, if it was given ours already. */
	if (newsock->ops && newsock->ops == READ_ONCE(sock->ops)) {
		__module_get(base->owner);
		newsock->ops = base;
		module_put(THIS_MODULE);
	}
	if (!listener)
		return compat_accept(base, sock, newsock, flags);
	own = find_own(listener, !nonblock, &narrow);
	if (own)
		local_attend(own);
	for (;;) {
		rc = take(listener, own, narrow, own_first(listener), newsock, &source);
		if (rc != -EAGAIN || !timeout)
			break;
		if (signal_pending(current)) {
			rc = sock_intr_errno(timeout);
			break;
		}
		timeout = wait_once(listener, own, narrow, timeout);
	}
	if (!rc) {
		count(listener, own, source);
		note_streak(listener, source == FROM_OWN);
	}
	/* This waiter may have been woken from two queues at once although it takes one connection
	 * only, or was killed: pass the other wake-up on to another waiter. */
	if (own)
		wake_next(sk_of(own));
	wake_next(sock->sk);
	if (others_ready(listener, own, true))
		wake_up_interruptible_poll(sk_sleep(sock->sk), EPOLLIN | EPOLLRDNORM);
	return rc;
}
