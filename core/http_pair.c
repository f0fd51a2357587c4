/* SPDX-License-Identifier: MIT */
/*
 * Which request of HTTP/1 a response answers. Responses come in the order of the requests, so it is
 * the oldest one that has none: as long as all of both were seen. Where some were not, pairing is
 * in doubt, and requests and responses are handed over alone. The doubt ends at a request before
 * which the client did as one does that waits for each response: one request, one response, and
 * nothing under way. It never ends where this client was seen not to wait (pipelining).
 */
#include "http_private.h"

static struct http_exchange *pop(struct http *h)
{
	struct http_exchange *x = h->queue.first;

	h->queue.first = x->next;
	if (!h->queue.first)
		h->queue.last = &h->queue.first;
	h->queue.count--;
	if (h->queue.sure)
		h->queue.sure--;
	return x;
}

static void push(struct http *h, struct http_exchange *x)
{
	x->next = NULL;
	*h->queue.last = x;
	h->queue.last = &x->next;
	h->queue.count++;
}

/* Requests whose response will not be known. */
static void give_up(struct http *h)
{
	while (h->queue.first)
		http_over(h, pop(h), HTTP_RESP);
}

/* Whether a request that comes now shows that this client does not wait. */
static bool shows_pipelining(struct http *h)
{
	const struct side *resp = side_of(h, HTTP_RESP);

	if (!h->queue.doubt)
		return h->queue.count || resp->h1.begun;
	return h->queue.sure || (h->queue.asked && resp->state == RUNNING);
}

void pair_request(struct http *h, struct http_exchange *x)
{
	bool answering = side_of(h, HTTP_RESP)->h1.begun;

	if (shows_pipelining(h))
		h->queue.pipelined = true;
	if (h->queue.answered && !answering && !h->queue.pipelined)
		h->queue.doubt = false;
	if (!h->queue.doubt && h->queue.count >= HTTP_OPEN)
		pair_doubt(h, HTTP_RESP);
	if (!h->queue.doubt) {
		push(h, x);
		return;
	}
	h->queue.asked = !answering;
	h->queue.answered = false;
	x->over[HTTP_RESP] = true;
}

struct http_exchange *pair_response(struct http *h)
{
	struct http_exchange *x;

	if (h->queue.count && (!h->queue.doubt || h->queue.sure))
		return pop(h);
	/* It answers a request that was not seen, and so may the next ones. */
	if (!h->queue.doubt)
		pair_doubt(h, HTTP_REQ);
	x = http_new(h, "HTTP/1.1");
	if (x)
		x->over[HTTP_REQ] = true;
	return x;
}

void pair_answered(struct http *h)
{
	if (!h->queue.doubt)
		return;
	h->queue.answered = h->queue.asked;
	h->queue.asked = false;
}

void pair_doubt(struct http *h, enum http_side lost)
{
	h->queue.doubt = true;
	h->queue.asked = h->queue.answered = false;
	if (lost == HTTP_RESP)
		give_up(h);
	h->queue.sure = h->queue.count;
}

void pair_close(struct http *h)
{
	give_up(h);
}
