// SPDX-License-Identifier: GPL-2.0
/*
 * Which local listener a new connection goes to: that of the core which received it, if that is
 * live, else the global one.
 *
 * Facts: all members of a reuseport group are in sk_reuseport_cb->socks[]; a classic BPF program
 * returns the index there (reuseport_select_sock, net/core/sock_reuseport.c). `ld #cpu` is the core
 * that handles the SYN. reuseport_attach_prog frees the program that it replaces.
 */
#include "listener.h"

#include <linux/cpumask.h>
#include <linux/filter.h>
#include <linux/slab.h>
#include <net/sock_reuseport.h>

static int member(const struct sock_reuseport *group, const struct sock *sk)
{
	for (int i = 0; i < READ_ONCE(group->num_socks); i++)
		if (READ_ONCE(group->socks[i]) == sk)
			return i;
	return -1;
}

/* Instructions for the live locals; 0 if there is no group, or not the global listener in it. */
static int write_program(struct listener *listener, struct sock_filter *program)
{
	const struct sock_reuseport *group;
	struct local *local;
	int n = 0, global = -1;

	rcu_read_lock();
	group = rcu_dereference(listener->global->sk->sk_reuseport_cb);
	if (group)
		global = member(group, listener->global->sk);
	if (global >= 0) {
		program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							    SKF_AD_OFF + SKF_AD_CPU);
		list_for_each_entry (local, &listener->locals, node) {
			int index = local->live ? member(group, local->sock->sk) : -1;

			if (index < 0)
				continue;
			program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
								    local->cpu, 0, 1);
			program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, index);
		}
		program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, global);
	}
	rcu_read_unlock();
	return n;
}

/* Only what is new: a program is compiled, and every core told of its code. */
static int attach(struct listener *listener)
{
	struct sock_fprog_kern code = {0};
	struct bpf_prog *program;
	struct local *local;
	int rc = 0, room = 2;

	list_for_each_entry (local, &listener->locals, node)
		room += 2;
	code.filter = kcalloc(room, sizeof(*code.filter), GFP_KERNEL);
	if (!code.filter)
		return -ENOMEM;
	code.len = write_program(listener, code.filter);
	if (code.len == 0 ||
	    (code.len == listener->program_length &&
	     memcmp(code.filter, listener->program, code.len * sizeof(*code.filter)) == 0)) {
		kfree(code.filter);
		return 0;
	}
	rc = bpf_prog_create(&program, &code);
	if (!rc) {
		rc = reuseport_attach_prog(listener->global->sk, program);
		if (rc)
			bpf_prog_destroy(program);
	}
	if (rc) {
		kfree(code.filter);
		return rc;
	}
	kfree(listener->program);
	listener->program = code.filter;
	listener->program_length = code.len;
	return 0;
}

/* Another group than before has no program: after a shutdown, or when the first sibling joined. */
void steer_forget(struct listener *listener)
{
	kfree(listener->program);
	listener->program = NULL;
	listener->program_length = 0;
}

static unsigned int count_owners(struct listener *listener, const struct local *local,
				 bool active_only)
{
	struct owner *owner;
	unsigned int count = 0;

	list_for_each_entry (owner, &listener->owners, node)
		if (owner->local == local && (READ_ONCE(owner->active) || !active_only))
			count++;
	return count;
}

/* Bring every local's state, and the program, up to date; wake whoever can take what is left. */
void steer_update(struct listener *listener)
{
	struct local *local;
	bool any_open = false;
	int left = 0;

	lockdep_assert_held(&listener->lock);
	WRITE_ONCE(listener->any_open, false);
	smp_mb(); /* local_told() sets local->open first: either of us sees the other's */
	list_for_each_entry (local, &listener->locals, node) {
		bool live = count_owners(listener, local, true) > 0 &&
			    READ_ONCE(local->deserted) < DESERTED_MAX;

		WRITE_ONCE(local->orphan, count_owners(listener, local, false) == 0);
		if (live && !local->live)
			options_copy(listener, local);
		WRITE_ONCE(local->live, live);
		if (local_is_anybodys(local)) {
			any_open = true;
			left += READ_ONCE(local->sock->sk->sk_ack_backlog);
		}
	}
	if (any_open)
		WRITE_ONCE(listener->any_open, true);
	if (!list_empty(&listener->locals) && attach(listener))
		pr_warn_ratelimited("fastsocket: steering cannot be changed for want of memory\n");
	if (left)
		__wake_up(sk_sleep(listener->global->sk), TASK_INTERRUPTIBLE, left,
			  poll_to_key(EPOLLIN | EPOLLRDNORM));
}

/* A core that the process may run on: one with the fewest that work there, then with the fewest
 * that own a listener there, then the next one. */
int steer_choose_cpu(struct listener *listener)
{
	unsigned int fewest = UINT_MAX, weight;
	int cpu = listener->last_cpu, best = -1;

	for (int i = 0; i < nr_cpu_ids; i++) {
		const struct local *local;

		cpu = cpu + 1 < nr_cpu_ids ? cpu + 1 : 0;
		if (!cpu_online(cpu) || !cpumask_test_cpu(cpu, current->cpus_ptr))
			continue;
		local = local_of_cpu(listener, cpu);
		weight = local ? (count_owners(listener, local, true) << 16) +
					 count_owners(listener, local, false)
			       : 0;
		if (weight < fewest) {
			fewest = weight;
			best = cpu;
		}
	}
	return best < 0 ? raw_smp_processor_id() : best;
}
