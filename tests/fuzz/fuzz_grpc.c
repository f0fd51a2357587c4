/* SPDX-License-Identifier: MIT */
/*
 * Calls of gRPC that anybody may have made: headers, up to the first NUL one value for all of them;
 * then a body, read whole and cut. 0xff and a size in it: so many bytes were not seen.
 */
#include <stdlib.h>
#include <string.h>

#include "grpc.h"

static void headers(const char *value, size_t len)
{
	static const char *const names[] = {"content-type", "grpc-status", "grpc-message",
					    "grpc-timeout"};
	struct http_exchange x = {.stream_id = 1, .target = {(unsigned char *)value, len, len}};
	struct ts_buf text = {0}, fields = {0}, out = {0};
	const char *service = NULL, *method;
	struct http_field f;
	size_t i, service_len = 0;

	for (i = 0; i < TS_ARRAY_SIZE(names); i++) {
		f = (struct http_field){(uint32_t)text.len, (uint32_t)strlen(names[i]),
					(uint32_t)(text.len + strlen(names[i]) + 1), (uint32_t)len};
		if (ts_buf_add(&text, names[i], f.name_len + 1) ||
		    ts_buf_add(&text, value, len + 1) || ts_buf_add(&fields, &f, sizeof(f)))
			abort();
	}
	for (i = 0; i < 2; i++) {
		x.message[i].seen = true;
		x.message[i].text = text;
		x.message[i].fields = fields;
	}
	grpc_is_call(&x);
	method = grpc_method(&x, &service, &service_len);
	if (method && (service + service_len >= method || strlen(method) > len))
		abort();
	if (grpc_status(&x) < -1 || grpc_timeout(&x) > INT64_MAX)
		abort();
	if (!grpc_status_message(&x, &out) || out.len > len)
		abort();
	ts_buf_free(&text);
	ts_buf_free(&fields);
	ts_buf_free(&out);
}

static void feed(struct grpc_side *s, const unsigned char *data, size_t len, size_t step)
{
	unsigned char *copy;
	size_t at, n;

	for (at = 0; at < len; at += n) {
		n = len - at < step ? len - at : step;
		copy = malloc(n);
		if (!copy)
			abort();
		memcpy(copy, data + at, n);
		grpc_feed(s, copy, n);
		free(copy);
	}
}

static void body(struct grpc_side *s, const unsigned char *data, size_t size, size_t step)
{
	const unsigned char *gap;
	size_t n;

	while (size) {
		gap = memchr(data, 0xff, size - 1);
		n = gap ? (size_t)(gap - data) : size;
		feed(s, data, n, step);
		if (gap) {
			grpc_feed(s, NULL, gap[1]);
			n += 2;
		}
		data += n;
		size -= n;
	}
	grpc_end(s);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct grpc_call *whole = calloc(1, sizeof(*whole));
	struct grpc_side *s, *t;
	size_t n = strnlen((const char *)data, size);
	char *value = malloc(n + 1);

	if (!whole || !value)
		abort();
	memcpy(value, data, n);
	value[n] = 0;
	headers(value, n);
	free(value);
	n += n < size;
	s = &whole->side[HTTP_REQ];
	t = &whole->side[HTTP_RESP];
	body(s, data + n, size - n, SIZE_MAX);
	body(t, data + n, size - n, 1 + size % 7);
	if (s->count != t->count || s->len != t->len || s->partial != t->partial ||
	    s->compressed != t->compressed || s->lens.len != t->lens.len ||
	    (s->lens.len && memcmp(s->lens.data, t->lens.data, s->lens.len) != 0))
		abort();
	if (s->lens.len > GRPC_LENS * sizeof(uint32_t))
		abort();
	grpc_free(whole);
	return 0;
}
