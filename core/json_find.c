/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "json_find.h"

static const struct json_value nothing;

static struct json_value skip_space(struct json_value v)
{
	while (v.at && v.at < v.end &&
	       (*v.at == ' ' || *v.at == '\t' || *v.at == '\n' || *v.at == '\r'))
		v.at++;
	return v.at && v.at < v.end ? v : nothing;
}

struct json_value json_text(const char *text, size_t len)
{
	return skip_space((struct json_value){text, text + len});
}

/* Behind the string that begins here. */
static struct json_value skip_string(struct json_value v)
{
	for (v.at++; v.at < v.end && *v.at != '"'; v.at++)
		if (*v.at == '\\')
			v.at++;
	if (v.at >= v.end)
		return nothing;
	v.at++;
	return v;
}

/* Behind the value that begins here: brackets are counted, not matched. */
static struct json_value skip_value(struct json_value v)
{
	size_t depth = 0;

	while (v.at && v.at < v.end) {
		if (*v.at == '"') {
			v = skip_string(v);
			if (!depth)
				return skip_space(v);
			continue;
		}
		if (*v.at == '{' || *v.at == '[') {
			depth++;
		} else if (*v.at == '}' || *v.at == ']') {
			if (!depth)
				return v;
			if (!--depth) {
				v.at++;
				return skip_space(v);
			}
		} else if (*v.at == ',' && !depth) {
			return v;
		}
		v.at++;
	}
	return nothing;
}

/* Takes the character, and the space behind it. */
static struct json_value take(struct json_value v, char c)
{
	if (!v.at || *v.at != c)
		return nothing;
	v.at++;
	return skip_space(v);
}

struct json_value json_member(struct json_value object, const char *name)
{
	struct json_value v = take(object, '{'), key;
	size_t len = strlen(name);

	while (v.at && *v.at == '"') {
		key = v;
		v = skip_space(skip_string(v));
		v = take(v, ':');
		if (!v.at)
			break;
		if ((size_t)(v.at - key.at) > len + 2 && !memcmp(key.at + 1, name, len) &&
		    key.at[len + 1] == '"')
			return v;
		v = take(skip_value(v), ',');
	}
	return nothing;
}

struct json_value json_first(struct json_value array)
{
	struct json_value v = take(array, '[');

	return v.at && *v.at != ']' ? v : nothing;
}

struct json_value json_next(struct json_value element)
{
	return take(skip_value(element), ',');
}

static long hex4(const char *at)
{
	long n = 0;
	int i;

	for (i = 0; i < 4; i++) {
		if (at[i] >= '0' && at[i] <= '9')
			n = n << 4 | (at[i] - '0');
		else if ((at[i] | 32) >= 'a' && (at[i] | 32) <= 'f')
			n = n << 4 | ((at[i] | 32) - 'a' + 10);
		else
			return -1;
	}
	return n;
}

/* A character of the lower plane as UTF-8; 0: not possible. Surrogates are not for names. */
static size_t put_utf8(long c, char *out)
{
	if (c <= 0 || (c >= 0xd800 && c < 0xe000))
		return 0;
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	out[0] = (char)(0xe0 | c >> 12);
	out[1] = (char)(0x80 | (c >> 6 & 63));
	out[2] = (char)(0x80 | (c & 63));
	return 3;
}

/* What the escape at v->at, behind its backslash, stands for; moves on. 0: nothing. */
static size_t unescape(struct json_value *v, char out[3])
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;

	if (v->at < v->end && *v->at == 'u' && v->end - v->at > 4) {
		v->at += 5;
		return put_utf8(hex4(v->at - 4), out);
	}
	found = v->at < v->end && *v->at ? strchr(from, *v->at) : NULL;
	if (!found)
		return 0;
	out[0] = to[found - from];
	v->at++;
	return 1;
}

bool json_string(struct json_value v, char *out, size_t size)
{
	char piece[3];
	size_t used = 0, n;

	*out = 0;
	if (!v.at || *v.at != '"')
		return false;
	for (v.at++; v.at < v.end && *v.at != '"'; used += n) {
		if (*v.at == '\\') {
			v.at++;
			n = unescape(&v, piece);
		} else {
			piece[0] = *v.at++;
			n = piece[0] != 0;
		}
		if (!n || used + n >= size) {
			*out = 0;
			return false;
		}
		memcpy(out + used, piece, n);
	}
	out[v.at < v.end ? used : 0] = 0;
	return v.at < v.end;
}
