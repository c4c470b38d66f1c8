// SPDX-License-Identifier: GPL-2.0
/*
 * The global listener: hooking its socket, its locals and owners, and its end.
 *
 * Facts about replacing a socket's ops (net/socket.c). sock_release() puts the module reference of
 * the ops that it finds, after their release() has returned: so our copy names this module as its
 * owner, and the module cannot go while a hooked socket lives. A call under way may still use the
 * old ops, which stay valid. They are never put back.
 */
#include "compat/compat.h"
#include "listener.h"

#include <linux/cpumask.h>
#include <linux/fdtable.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <net/inet_common.h>

enum { LOOK_AGAIN = HZ / 4 }; /* jiffies */

static bool pin;
module_param(pin, bool, 0644);
MODULE_PARM_DESC(pin, "bind a thread that spawns a listener to its core, if its mask has that (0)");

static LIST_HEAD(listeners);
static DEFINE_MUTEX(listeners_lock);
static struct workqueue_struct *work_queue;
static const struct proto_ops *inet6_ops; /* not exported by name; NULL: no IPv6 */

static int listener_release(struct socket *sock);
static int listener_listen(struct socket *sock, int backlog);
static int listener_shutdown(struct socket *sock, int how);
static int listener_setsockopt(struct socket *sock, int level, int name, sockptr_t value,
			       unsigned int length);
COMPAT_ACCEPT(hooked_accept, listener_accept)

static void work(struct work_struct *work)
{
	struct listener *listener = container_of(work, struct listener, work.work);
	struct owner *owner, *next;
	struct local *local;

	mutex_lock(&listener->lock);
	if (listener->global) {
		list_for_each_entry_safe (owner, next, &listener->owners, node)
			if (READ_ONCE(owner->gone))
				owner_drop(owner);
		if (time_after_eq(jiffies, listener->next_look)) {
			listener->next_look = jiffies + LOOK_AGAIN;
			list_for_each_entry (local, &listener->locals, node)
				local_look(local);
		}
		steer_update(listener);
	}
	mutex_unlock(&listener->lock);
	listener_put(listener);
}

/* From anywhere; the caller knows that the listener is there. Work that is due has a reference. */
void listener_kick(struct listener *listener)
{
	if (refcount_inc_not_zero(&listener->refs) &&
	    mod_delayed_work(work_queue, &listener->work, 0))
		listener_put(listener);
}

void listener_look(struct listener *listener)
{
	if (!delayed_work_pending(&listener->work) && refcount_inc_not_zero(&listener->refs) &&
	    !queue_delayed_work(work_queue, &listener->work, LOOK_AGAIN))
		listener_put(listener);
}

void listener_put(struct listener *listener)
{
	if (refcount_dec_and_test(&listener->refs))
		kfree_rcu(listener, rcu);
}

/* A TCP socket whose calls we know; no MPTCP, no SMC, nothing that hooked it before us. */
bool listener_possible(const struct socket *sock)
{
	const struct proto_ops *ops = READ_ONCE(sock->ops);

	return sock->sk && sock->sk->sk_protocol == IPPROTO_TCP &&
	       (ops == &inet_stream_ops || (inet6_ops && ops == inet6_ops));
}

struct listener *listener_of(struct socket *sock)
{
	const struct proto_ops *ops = READ_ONCE(sock->ops);

	return ops && ops->accept == hooked_accept ? container_of(ops, struct listener, ops) : NULL;
}

/* The socket's listener, made now if it has none. */
int listener_hook(struct socket *sock, struct listener **out)
{
	struct listener *listener;

	mutex_lock(&listeners_lock);
	*out = listener_of(sock);
	if (*out || !listener_possible(sock)) {
		mutex_unlock(&listeners_lock);
		return *out ? 0 : -EOPNOTSUPP;
	}
	listener = kzalloc(sizeof(*listener), GFP_KERNEL_ACCOUNT);
	if (!listener) {
		mutex_unlock(&listeners_lock);
		return -ENOMEM;
	}
	refcount_set(&listener->refs, 1);
	mutex_init(&listener->lock);
	INIT_LIST_HEAD(&listener->locals);
	INIT_LIST_HEAD(&listener->owners);
	INIT_DELAYED_WORK(&listener->work, work);
	listener->last_cpu = nr_cpu_ids - 1;
	listener->global = sock;
	listener->base = sock->ops;
	listener->ops = *sock->ops;
	listener->ops.owner = THIS_MODULE;
	listener->ops.release = listener_release;
	listener->ops.accept = hooked_accept;
	listener->ops.poll = listener_poll;
	listener->ops.listen = listener_listen;
	listener->ops.shutdown = listener_shutdown;
	listener->ops.setsockopt = listener_setsockopt;
	list_add_tail(&listener->node, &listeners);
	__module_get(THIS_MODULE);
	smp_store_release(&sock->ops, &listener->ops);
	mutex_unlock(&listeners_lock);
	*out = listener;
	return 0;
}

/* Only when nobody holds the file any more: no poll, no accept, no epoll registration is left. */
static int listener_release(struct socket *sock)
{
	struct listener *listener = listener_of(sock);
	const struct proto_ops *base = listener->base;
	struct owner *owner, *next_owner;
	struct local *local, *next;
	int rc;

	mutex_lock(&listeners_lock);
	list_del(&listener->node);
	mutex_unlock(&listeners_lock);

	mutex_lock(&listener->lock);
	list_for_each_entry_safe (owner, next_owner, &listener->owners, node)
		owner_drop(owner);
	list_for_each_entry_safe (local, next, &listener->locals, node)
		local_destroy(local);
	steer_forget(listener);
	listener->global = NULL; /* for the work, which may still come */
	mutex_unlock(&listener->lock);

	rc = base->release(sock);
	module_put(base->owner); /* taken when the socket was made */
	listener_put(listener);
	return rc;
}

/* Again, or after a shutdown, which it undoes. */
static int listener_listen(struct socket *sock, int backlog)
{
	struct listener *listener = listener_of(sock);
	struct local *local;
	int rc;

	mutex_lock(&listener->lock);
	rc = listener->base->listen(sock, backlog);
	if (!rc) {
		list_for_each_entry (local, &listener->locals, node)
			local_listen(local);
		steer_forget(listener);
		steer_update(listener);
	}
	mutex_unlock(&listener->lock);
	return rc;
}

static int listener_shutdown(struct socket *sock, int how)
{
	struct listener *listener = listener_of(sock);
	struct local *local;
	int rc;

	mutex_lock(&listener->lock);
	rc = listener->base->shutdown(sock, how);
	if (!rc)
		list_for_each_entry (local, &listener->locals, node)
			local_shutdown(local, how);
	mutex_unlock(&listener->lock);
	return rc;
}

static int listener_setsockopt(struct socket *sock, int level, int name, sockptr_t value,
			       unsigned int length)
{
	struct listener *listener = listener_of(sock);
	struct local *local;
	int rc = listener->base->setsockopt(sock, level, name, value, length);

	if (rc)
		return rc;
	mutex_lock(&listener->lock);
	list_for_each_entry (local, &listener->locals, node)
		options_copy(listener, local);
	mutex_unlock(&listener->lock);
	return 0;
}

/* This process gets the listener of core `cpu`, or, for -1, of the next; nothing arrives there
 * before it polls or accepts. */
int listener_spawn(struct listener *listener, int cpu)
{
	struct owner *owner;
	struct local *local;
	bool has_one;
	int rc = 0;

	if (cpu < -1 || cpu >= (int)nr_cpu_ids || (cpu >= 0 && !cpu_possible(cpu)))
		return -EINVAL;
	mutex_lock(&listener->lock);
	if (READ_ONCE(listener->global->sk->sk_state) != TCP_LISTEN) {
		mutex_unlock(&listener->lock);
		return -EINVAL;
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
	if (!local) {
		steer_forget(listener);
		rc = local_create(listener, cpu, &local);
	}
	if (!rc)
		rc = owner_set(listener, local);
	steer_update(listener);
	mutex_unlock(&listener->lock);
	if (!rc && pin && cpumask_test_cpu(cpu, current->cpus_ptr))
		rc = set_cpus_allowed_ptr(current, cpumask_of(cpu));
	return rc;
}

/* This process closes the listener: what is in its queue is others'. */
void listener_leave(struct listener *listener)
{
	struct owner *owner;

	mutex_lock(&listener->lock);
	rcu_read_lock();
	owner = owner_find(listener);
	rcu_read_unlock();
	if (owner) { /* only who holds the lock removes it */
		owner_drop(owner);
		steer_update(listener);
	}
	mutex_unlock(&listener->lock);
}

void listener_each(void (*see)(struct listener *listener, void *context), void *context)
{
	struct listener *listener;

	mutex_lock(&listeners_lock);
	list_for_each_entry (listener, &listeners, node) {
		mutex_lock(&listener->lock);
		see(listener, context);
		mutex_unlock(&listener->lock);
	}
	mutex_unlock(&listeners_lock);
}

int listener_init(void)
{
	struct socket *probe;

	if (IS_ENABLED(CONFIG_IPV6) &&
	    sock_create_kern(&init_net, AF_INET6, SOCK_STREAM, IPPROTO_TCP, &probe) == 0) {
		inet6_ops = probe->ops;
		sock_release(probe);
	}
	work_queue = alloc_workqueue("fastsocket", 0, 0);
	return work_queue ? 0 : -ENOMEM;
}

void listener_uninit(void)
{
	destroy_workqueue(work_queue);
}
