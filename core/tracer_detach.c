/* SPDX-License-Identifier: MIT */
/*
 * Detaching. The kernel lets go of a probe once no processor can be in it any more, which takes it
 * a tenth of a second a link: it is waited for many of them at the same time.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tracer_private.h"

#define MOST_THREADS 256

/* Shared by the threads: each takes the next link. */
struct closing {
	const struct probe_link *links;
	size_t count, next;
	bool begins; /* those of this kind */
};

static void close_link(const struct probe_link *link)
{
	if (link->link)
		bpf_link__destroy(link->link);
	else
		close(link->fd);
}

static void *close_links(void *arg)
{
	struct closing *c = arg;
	size_t i;

	while ((i = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED)) < c->count) {
		if (c->links[i].begins == c->begins)
			close_link(&c->links[i]);
	}
	return NULL;
}

static void close_together(const struct tracer *t, bool begins)
{
	struct closing c = {.links = t->links, .count = t->links_count, .begins = begins};
	pthread_t threads[MOST_THREADS];
	size_t i, n = 0;

	while (n < MOST_THREADS && n + 1 < c.count &&
	       !pthread_create(&threads[n], NULL, close_links, &c))
		n++;
	close_links(&c);
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

static void *close_all(void *arg)
{
	struct probe_links *l = arg;
	size_t i;

	for (i = 0; i < l->count; i++)
		close_link(&l->links[i]);
	return NULL;
}

bool tracer_begin_thread(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	sigset_t all, before;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (ret)
		run(arg);
	return !ret;
}

void tracer_close_aside(struct tracer *t, struct probe_links *links)
{
	links->next = t->asides;
	t->asides = links;
	links->aside = tracer_begin_thread(&links->thread, close_all, links);
}

static void join_asides(struct tracer *t)
{
	struct probe_links *l;

	while ((l = t->asides)) {
		t->asides = l->next;
		if (l->aside)
			pthread_join(l->thread, NULL);
		free(l);
	}
}

void tracer_detach(struct tracer *t)
{
	sigset_t all, before;

	t->detached = true;
	/* A signal that ends us would end a thread that is in the kernel: see signals.c. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	tracer_detach_hello(t);
	tracer_detach_sockets(t);
	/* First the entries: no call is begun that could not end. */
	close_together(t, true);
	close_together(t, false);
	t->links_count = 0;
	join_asides(t);
	tracer_end_expecting(t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}
