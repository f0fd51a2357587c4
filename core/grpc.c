/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "grpc.h"

#define TYPE "application/grpc"

static bool says_grpc(const struct http_message *m)
{
	const char *type = http_value(m, "content-type", NULL);

	return type && !strncasecmp(type, TYPE, sizeof(TYPE) - 1) &&
	       (!type[sizeof(TYPE) - 1] || strchr("+; ", type[sizeof(TYPE) - 1]));
}

bool grpc_is_call(const struct http_exchange *x)
{
	const struct http_message *req = &x->message[HTTP_REQ];

	return x->stream_id && says_grpc(req->seen ? req : &x->message[HTTP_RESP]);
}

static void end_message(struct grpc_side *s)
{
	uint32_t len = (uint32_t)s->head[1] << 24 | (uint32_t)s->head[2] << 16 |
		       (uint32_t)s->head[3] << 8 | s->head[4];

	s->have = 0;
	s->count++;
	s->len += len;
	s->compressed |= s->head[0];
	if (s->lens.len < GRPC_LENS * sizeof(len))
		ts_buf_add(&s->lens, &len, sizeof(len));
}

static void begin_message(struct grpc_side *s)
{
	s->left = (uint32_t)s->head[1] << 24 | (uint32_t)s->head[2] << 16 |
		  (uint32_t)s->head[3] << 8 | s->head[4];
	/* No message: nothing tells where the next one would begin. */
	s->partial |= s->head[0] > 1;
	if (!s->left && !s->partial)
		end_message(s);
}

/* What is missing inside a message leaves its length known. */
static void miss(struct grpc_side *s, size_t len)
{
	if (s->partial || s->have < sizeof(s->head) || len > s->left) {
		s->partial = true;
		return;
	}
	s->left -= (uint32_t)len;
	if (!s->left)
		end_message(s);
}

void grpc_feed(struct grpc_side *s, const void *data, size_t len)
{
	const unsigned char *at = data;
	size_t n;

	if (!data) {
		miss(s, len);
		return;
	}
	while (len && !s->partial) {
		if (s->have < sizeof(s->head)) {
			s->head[s->have++] = *at++;
			len--;
			if (s->have == sizeof(s->head))
				begin_message(s);
			continue;
		}
		n = len < s->left ? len : s->left;
		s->left -= (uint32_t)n;
		len -= n;
		at += n;
		if (!s->left)
			end_message(s);
	}
}

void grpc_end(struct grpc_side *s)
{
	s->partial |= s->have;
}

void grpc_free(struct grpc_call *c)
{
	ts_buf_free(&c->side[HTTP_REQ].lens);
	ts_buf_free(&c->side[HTTP_RESP].lens);
	free(c);
}

const char *grpc_method(const struct http_exchange *x, const char **service, size_t *service_len)
{
	const char *path = (const char *)x->target.data, *slash = path ? strrchr(path, '/') : NULL;

	if (!path || *path != '/' || slash == path || !slash[1])
		return NULL;
	*service = path + 1;
	*service_len = (size_t)(slash - path) - 1;
	return slash + 1;
}

int grpc_status(const struct http_exchange *x)
{
	const char *value = http_value(&x->message[HTTP_RESP], "grpc-status", NULL);
	size_t len = value ? strspn(value, "0123456789") : 0;

	return len && len < 10 && !value[len] ? atoi(value) : -1;
}

const char *grpc_status_name(int status)
{
	static const char *const names[] = {
		"OK",
		"CANCELLED",
		"UNKNOWN",
		"INVALID_ARGUMENT",
		"DEADLINE_EXCEEDED",
		"NOT_FOUND",
		"ALREADY_EXISTS",
		"PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED",
		"FAILED_PRECONDITION",
		"ABORTED",
		"OUT_OF_RANGE",
		"UNIMPLEMENTED",
		"INTERNAL",
		"UNAVAILABLE",
		"DATA_LOSS",
		"UNAUTHENTICATED",
	};

	return status >= 0 && status < (int)TS_ARRAY_SIZE(names) ? names[status] : NULL;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What is no escape stays as it is. */
bool grpc_status_message(const struct http_exchange *x, struct ts_buf *out)
{
	size_t len, i;
	const char *value = http_value(&x->message[HTTP_RESP], "grpc-message", &len);
	char c;

	for (i = 0; value && i < len; i++) {
		c = value[i];
		if (c == '%' && i + 2 < len && hex(value[i + 1]) >= 0 && hex(value[i + 2]) >= 0) {
			c = (char)(hex(value[i + 1]) * 16 + hex(value[i + 2]));
			i += 2;
		}
		if (ts_buf_add(out, &c, 1))
			return false;
	}
	return value;
}

uint64_t grpc_timeout(const struct http_exchange *x)
{
	static const char units[] = "numSMH";
	static const uint64_t ns[] = {
		1, 1000, 1000000, 1000000000, 60 * 1000000000ull, 3600 * 1000000000ull};
	const char *value = http_value(&x->message[HTTP_REQ], "grpc-timeout", NULL);
	size_t len = value ? strspn(value, "0123456789") : 0;
	const char *unit = len && len <= 8 && value[len] ? strchr(units, value[len]) : NULL;
	uint64_t n;

	if (!unit || value[len + 1])
		return 0;
	n = strtoull(value, NULL, 10);
	return n > INT64_MAX / ns[unit - units] ? INT64_MAX : n * ns[unit - units];
}
