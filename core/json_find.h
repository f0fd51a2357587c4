/* SPDX-License-Identifier: MIT */
/*
 * A look into JSON text that is not trusted, without taking it apart: nothing is allocated, and
 * however deep it is, no stack is used. Text that is no JSON gives no value, or a wrong one.
 */
#ifndef TLSSCOPE_JSON_FIND_H
#define TLSSCOPE_JSON_FIND_H

#include "base.h"

/* A value: where it begins, and where the text ends. at NULL: there is none. */
struct json_value {
	const char *at, *end;
};

struct json_value json_text(const char *text, size_t len);
/* The member of an object by its name, which needs no escapes. */
struct json_value json_member(struct json_value object, const char *name);
/* The first element of an array; the one after `element`. */
struct json_value json_first(struct json_value array);
struct json_value json_next(struct json_value element);
/* Copies a string as UTF-8. False, and "", when it is none, or does not fit, or has a NUL. */
bool json_string(struct json_value value, char *out, size_t size);

#endif
