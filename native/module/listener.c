// SPDX-License-Identifier: GPL-2.0
/*
 * The global listener: hooking its socket, its locals and owners, and its end.
 *
 * Facts about replacing a socket's ops (net/socket.c). sock_release() puts the module reference of
 * the ops that it finds, after their release() has returned: our tables name this module as their
 * owner, so the module cannot go while a hooked socket lives. accept(2) gives the new socket the
 * listener's ops before it calls accept(), kernel_accept() after: so our functions are called with
 * sockets that are not listeners of ours, and then act as the protocol's own functions do. A call
 * in progress may still use the old ops, which stay valid. The old ops are never put back.
 */
#include "compat/compat.h"
#include "listener.h"

#include <linux/cpumask.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <net/inet_common.h>

static bool pin;
module_param(pin, bool, 0644);
MODULE_PARM_DESC(pin, "bind a spawning thread to its listener's core if its CPU mask has it (0)");

static LIST_HEAD(listeners);
/* All users' listeners share this lock: nothing that sleeps is done under it. */
static DEFINE_SPINLOCK(listeners_lock);
static DEFINE_HASHTABLE(by_socket, 8); /* read under RCU, changed under listeners_lock */
static struct workqueue_struct *work_queue;
static const struct proto_ops *inet6_ops; /* not exported by name; NULL: no IPv6 */
static struct proto_ops hooked, hooked6;  /* inet_stream_ops and *inet6_ops, with our hooks */

static int listener_release(struct socket *sock);
static int listener_listen(struct socket *sock, int backlog);
static int listener_shutdown(struct socket *sock, int how);
static int listener_setsockopt(struct socket *sock, int level, int name, sockptr_t value,
			       unsigned int length);
static int listener_connect(struct socket *sock, compat_sockaddr *address, int length, int flags);
COMPAT_ACCEPT(hooked_accept, listener_accept)

static void work(struct work_struct *work)
{
	struct fs_listener *listener = container_of(work, struct fs_listener, work.work);
	struct owner *owner, *next;
	struct local *local;

	mutex_lock(&listener->lock);
	if (listener->global) {
		list_for_each_entry_safe(owner, next, &listener->owners, node)
			if (READ_ONCE(owner->gone))
				owner_drop(owner);
		if (time_after_eq(jiffies, listener->next_look)) {
			listener->next_look = jiffies + LOOK_AGAIN;
			list_for_each_entry(local, &listener->locals, node)
				local_look(local);
		} else {
			listener_look(listener); /* our look may have been put off by a kick */
		}
		steer_update(listener);
	}
	mutex_unlock(&listener->lock);
	listener_put(listener);
}

/* May be called from anywhere; the caller knows that the listener exists. Work that is due has a
 * reference. */
void listener_kick(struct fs_listener *listener)
{
	if (refcount_inc_not_zero(&listener->refs) &&
	    mod_delayed_work(work_queue, &listener->work, 0))
		listener_put(listener);
}

void listener_look(struct fs_listener *listener)
{
	if (!delayed_work_pending(&listener->work) && refcount_inc_not_zero(&listener->refs) &&
	    !queue_delayed_work(work_queue, &listener->work, LOOK_AGAIN))
		listener_put(listener);
}

void listener_put(struct fs_listener *listener)
{
	if (refcount_dec_and_test(&listener->refs))
		kfree_rcu(listener, rcu);
}

/* The protocol's own ops of a socket that has ours. */
const struct proto_ops *listener_base(const struct socket *sock)
{
	return READ_ONCE(sock->ops) == &hooked6 ? inet6_ops : &inet_stream_ops;
}

/* The caller holds the socket's file, so the socket stays. */
struct fs_listener *listener_of(const struct socket *sock)
{
	const struct proto_ops *ops = smp_load_acquire(&sock->ops); /* see hook() */
	struct fs_listener *listener, *found = NULL;

	if (ops != &hooked && ops != &hooked6)
		return NULL;
	rcu_read_lock();
	hash_for_each_possible_rcu(by_socket, listener, hash, (unsigned long)sock)
		if (listener->global == sock)
			found = listener;
	rcu_read_unlock();
	return found;
}

static struct proto_ops *ops_for(const struct socket *sock)
{
	const struct proto_ops *ops = READ_ONCE(sock->ops);

	if (sock->sk->sk_protocol != IPPROTO_TCP)
		return NULL; /* MPTCP and SMC have other calls */
	if (ops == &inet_stream_ops)
		return &hooked;
	return inet6_ops && ops == inet6_ops ? &hooked6 : NULL;
}

static struct fs_listener *listener_new(struct socket *sock)
{
	struct fs_listener *listener = kzalloc(sizeof(*listener), GFP_KERNEL_ACCOUNT);

	if (!listener)
		return NULL;
	refcount_set(&listener->refs, 1);
	mutex_init(&listener->lock);
	INIT_LIST_HEAD(&listener->locals);
	INIT_LIST_HEAD(&listener->owners);
	INIT_DELAYED_WORK(&listener->work, work);
	listener->next_look = jiffies;
	listener->last_cpu = nr_cpu_ids - 1;
	listener->global = sock;
	return listener;
}

static void hook(struct socket *sock, const struct proto_ops *ops, struct fs_listener *listener)
{
	__module_get(THIS_MODULE);
	listener->base = sock->ops;
	spin_lock(&listeners_lock);
	list_add_tail(&listener->node, &listeners);
	hash_add_rcu(by_socket, &listener->hash, (unsigned long)sock);
	spin_unlock(&listeners_lock);
	smp_store_release(&sock->ops, ops);
#ifdef SOCK_CUSTOM_SOCKOPT /* since 6.6 options of SOL_SOCKET can come to the ops too */
	set_bit(SOCK_CUSTOM_SOCKOPT, &sock->flags);
#endif
}

/* The socket's listener, made now if it has none. Only for a socket that listens: no other code
 * replaces or copies its ops then. */
int listener_hook(struct socket *sock, struct fs_listener **out)
{
	const struct proto_ops *ops;
	struct fs_listener *made;
	int rc = 0;

	*out = listener_of(sock);
	if (*out)
		return 0;
	made = listener_new(sock);
	if (!made)
		return -ENOMEM;
	/* A user may keep this lock for long, with an option's value that does not come: so we hold
	 * no lock that others need. */
	lock_sock(sock->sk);
	*out = listener_of(sock); /* another thread may have been faster */
	ops = ops_for(sock);
	if (!*out && !ops)
		rc = -EOPNOTSUPP;
	else if (!*out && (sock->sk->sk_state != TCP_LISTEN || sock->state != SS_UNCONNECTED))
		rc = -EINVAL;
	else if (!*out && inet_csk(sock->sk)->icsk_ulp_ops)
		rc = -EOPNOTSUPP;
	else if (!*out)
		hook(sock, ops, *out = made);
	release_sock(sock->sk);
	if (*out != made)
		kfree(made);
	return rc;
}

/* Called only when no process holds the file any more: no poll, no accept, no epoll registration is
 * left. */
static int listener_release(struct socket *sock)
{
	const struct proto_ops *base = listener_base(sock);
	struct fs_listener *listener = listener_of(sock);
	struct owner *owner, *next_owner;
	struct local *local, *next;
	int rc;

	if (!listener)
		return base->release(sock);
	spin_lock(&listeners_lock);
	list_del(&listener->node);
	hash_del_rcu(&listener->hash);
	spin_unlock(&listeners_lock);

	mutex_lock(&listener->lock);
	list_for_each_entry_safe(owner, next_owner, &listener->owners, node)
		owner_drop(owner);
	steer_end(listener);
	list_for_each_entry_safe(local, next, &listener->locals, node)
		local_destroy(local);
	listener->global = NULL; /* for the work, which may still run */
	mutex_unlock(&listener->lock);
	flush_delayed_work(&listener->work); /* no timer of it may outlive the module */

	rc = base->release(sock);
	module_put(base->owner); /* taken when the socket was made */
	listener_put(listener);
	return rc;
}

/* listen(2) again: a new backlog, or after a shutdown, which it undoes. */
static int listener_listen(struct socket *sock, int backlog)
{
	struct fs_listener *listener = listener_of(sock);
	struct local *local;
	int rc;

	if (!listener)
		return listener_base(sock)->listen(sock, backlog);
	mutex_lock(&listener->lock);
	rc = listener->base->listen(sock, backlog);
	if (!rc) {
		list_for_each_entry(local, &listener->locals, node)
			local_listen(local);
		steer_update(listener);
	}
	mutex_unlock(&listener->lock);
	return rc;
}

static int listener_shutdown(struct socket *sock, int how)
{
	struct fs_listener *listener = listener_of(sock);
	struct local *local;
	int rc;

	if (!listener)
		return listener_base(sock)->shutdown(sock, how);
	mutex_lock(&listener->lock);
	if (how != SHUT_WR)
		steer_end(listener); /* before it leaves its group, which may have other members */
	rc = listener->base->shutdown(sock, how);
	if (!rc || rc == -ENOTCONN) /* SOCK_DESTROY may have ended the global one alone */
		list_for_each_entry(local, &listener->locals, node)
			local_shutdown(local, how);
	mutex_unlock(&listener->lock);
	return rc;
}

/* connect(2) with AF_UNSPEC is a shutdown; after one, a listener of ours cannot connect. */
static int listener_connect(struct socket *sock, compat_sockaddr *address, int length, int flags)
{
	struct fs_listener *listener = listener_of(sock);

	if (!listener)
		return listener_base(sock)->connect(sock, address, length, flags);
	if (length < (int)sizeof(address->sa_family))
		return -EINVAL;
	if (address->sa_family == AF_UNSPEC)
		return listener_shutdown(sock, SHUT_RD);
	return READ_ONCE(sock->sk->sk_state) == TCP_LISTEN ? -EISCONN : -EOPNOTSUPP;
}

static int set_option(struct socket *sock, const struct proto_ops *base, int level, int name,
		      sockptr_t value, unsigned int length)
{
	return level == SOL_SOCKET ? sock_setsockopt(sock, level, name, value, length)
				   : base->setsockopt(sock, level, name, value, length);
}

static int listener_setsockopt(struct socket *sock, int level, int name, sockptr_t value,
			       unsigned int length)
{
	struct fs_listener *listener = listener_of(sock);
	struct local *local;
	int rc;

	if (!listener)
		return set_option(sock, listener_base(sock), level, name, value, length);
	if (options_refused(level, name))
		return -EOPNOTSUPP;
	if (level == SOL_SOCKET && name == SO_REUSEPORT)
		return 0; /* it must stay as the locals need it */
	rc = set_option(sock, listener->base, level, name, value, length);
	if (rc)
		return rc;
	mutex_lock(&listener->lock);
	list_for_each_entry(local, &listener->locals, node)
		options_copy(listener, local);
	mutex_unlock(&listener->lock);
	return 0;
}

/* This process gets the local listener of core `cpu`, or, for -1, of the next core. Nothing arrives
 * there before the process polls or accepts. */
int listener_spawn(struct fs_listener *listener, int cpu)
{
	struct owner *owner;
	struct local *local;
	bool has_one;
	int rc = 0;

	if (cpu < -1 || cpu >= (int)nr_cpu_ids || (cpu >= 0 && !cpu_possible(cpu)))
		return -EINVAL;
	mutex_lock(&listener->lock);
	if (READ_ONCE(listener->global->sk->sk_state) != TCP_LISTEN)
		rc = -EINVAL;
	else if (!options_copiable(listener->global->sk))
		rc = -EOPNOTSUPP;
	if (rc) {
		mutex_unlock(&listener->lock);
		return rc;
	}
	rcu_read_lock();
	owner = owner_find(listener);
	has_one = owner != NULL;
	if (has_one && cpu < 0)
		cpu = owner->local->cpu;
	rcu_read_unlock();
	if (cpu < 0)
		cpu = listener->last_cpu = steer_choose_cpu(listener);
	local = local_of_cpu(listener, cpu);
	if (!local)
		rc = local_create(listener, cpu, &local);
	else if (READ_ONCE(local->sock->sk->sk_state) != TCP_LISTEN)
		rc = local_listen(local);
	if (!rc)
		rc = owner_set(listener, local);
	steer_update(listener);
	mutex_unlock(&listener->lock);
	if (!rc && pin && cpumask_test_cpu(cpu, current->cpus_ptr))
		rc = set_cpus_allowed_ptr(current, cpumask_of(cpu));
	return rc;
}

/* This process closes the listener: connections in its queue are left to other processes. */
void listener_leave(struct fs_listener *listener)
{
	struct owner *owner;

	mutex_lock(&listener->lock);
	rcu_read_lock();
	owner = owner_find(listener);
	rcu_read_unlock();
	if (owner) { /* only the holder of the lock removes it */
		owner_drop(owner);
		steer_update(listener);
	}
	mutex_unlock(&listener->lock);
}

/* Call `see` for each listener of a network namespace, with its lock held. Returns 0 or -errno. */
int listener_each(const struct net *net, void (*see)(struct fs_listener *listener, void *context),
		  void *context)
{
	struct fs_listener *listener, **found;
	unsigned int count = 0, room = 0;
	int rc = 0;

	spin_lock(&listeners_lock);
	list_for_each_entry(listener, &listeners, node)
		room++;
	spin_unlock(&listeners_lock);
	found = kvcalloc(room, sizeof(struct fs_listener *), GFP_KERNEL_ACCOUNT);
	if (!found && room)
		return -ENOMEM;
	spin_lock(&listeners_lock);
	list_for_each_entry(listener, &listeners, node) /* a listener in the list has its socket */
		if (count < room && net_eq(sock_net(listener->global->sk), net) &&
		    refcount_inc_not_zero(&listener->refs))
			found[count++] = listener;
	spin_unlock(&listeners_lock);

	for (unsigned int i = 0; i < count; i++) {
		listener = found[i];
		if (!rc && mutex_lock_killable(&listener->lock)) {
			rc = -EINTR;
		} else if (!rc) {
			if (listener->global)
				see(listener, context);
			mutex_unlock(&listener->lock);
		}
		listener_put(listener);
	}
	kvfree(found);
	return rc;
}

static void hook_ops(struct proto_ops *ops, const struct proto_ops *base)
{
	*ops = *base;
	ops->owner = THIS_MODULE;
	ops->release = listener_release;
	ops->accept = hooked_accept;
	ops->poll = listener_poll;
	ops->listen = listener_listen;
	ops->shutdown = listener_shutdown;
	ops->connect = listener_connect;
	ops->setsockopt = listener_setsockopt;
}

int listener_init(void)
{
	struct socket *probe;

	hook_ops(&hooked, &inet_stream_ops);

	if (IS_ENABLED(CONFIG_IPV6) &&
	    sock_create_kern(&init_net, AF_INET6, SOCK_STREAM, IPPROTO_TCP, &probe) == 0) {
		inet6_ops = probe->ops;
		hook_ops(&hooked6, inet6_ops);
		sock_release(probe);
	}
	work_queue = alloc_workqueue("fastsocket", WQ_UNBOUND, 0);
	return work_queue ? 0 : -ENOMEM;
}

void listener_uninit(void)
{
	destroy_workqueue(work_queue);
}
