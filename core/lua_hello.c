/* SPDX-License-Identifier: MIT */
/* The fields of a hello. What it does not say is nil, and so is all that only a call has. */
#include <string.h>

#include "hello.h"
#include "lua_host.h"

static void push_number(lua_State *L, const char *name, int number, unsigned int size)
{
	char text[16];

	if (name) {
		lua_pushstring(L, name);
		return;
	}
	snprintf(text, sizeof(text), "0x%0*x", (int)size * 2, (unsigned int)number);
	lua_pushstring(L, text);
}

/* A list of those that stand for something; names may be NULL. */
static void push_numbers(lua_State *L, struct hello_part list, unsigned int size,
			 const char *(*names)(unsigned int number))
{
	lua_Integer count = 0;
	int n;

	if (!list.at) {
		lua_pushnil(L);
		return;
	}
	lua_newtable(L);
	while ((n = hello_number(&list, size)) >= 0) {
		if (size == 2 && hello_is_grease((unsigned int)n))
			continue;
		push_number(L, names(size == 2 || n < 0x10000 ? (unsigned int)n : 0xffff), n, size);
		lua_rawseti(L, -2, ++count);
	}
}

static void push_first(lua_State *L, struct hello_part list,
		       const char *(*names)(unsigned int number))
{
	int n = hello_number(&list, 2);

	if (n >= 0)
		push_number(L, names((unsigned int)n), n, 2);
	else
		lua_pushnil(L);
}

static void push_names(lua_State *L, struct hello_part list)
{
	struct hello_part name;
	lua_Integer count = 0;

	if (!list.at) {
		lua_pushnil(L);
		return;
	}
	lua_newtable(L);
	while (hello_name(&list, &name)) {
		lua_pushlstring(L, (const char *)name.at, name.size);
		lua_rawseti(L, -2, ++count);
	}
}

static void push_versions(lua_State *L, const struct hello *h)
{
	unsigned char version[2] = {(unsigned char)(h->version >> 8), (unsigned char)h->version};
	struct hello_part outer = {version, sizeof(version)};

	push_numbers(L, h->versions.at ? h->versions : outer, 2, hello_version_name);
}

static void push_version(lua_State *L, const struct hello *h)
{
	push_number(L, hello_version_name(h->version), h->version, 2);
}

static void push_part(lua_State *L, struct hello_part part)
{
	if (part.at)
		lua_pushlstring(L, (const char *)part.at, part.size);
	else
		lua_pushnil(L);
}

static void push_ja4(lua_State *L, const struct hello *h)
{
	char ja4[HELLO_JA4_SIZE];

	if (hello_ja4(h, ja4))
		lua_pushstring(L, ja4);
	else
		lua_pushnil(L);
}

/* What one of the two kinds has, and the other has not. */
static bool push_of_client(lua_State *L, const struct hello *h, const char *name)
{
	if (!strcmp(name, "sni"))
		push_part(L, h->sni);
	else if (!strcmp(name, "versions"))
		push_versions(L, h);
	else if (!strcmp(name, "ciphers"))
		push_numbers(L, h->ciphers, h->cipher_size, hello_cipher_name);
	else if (!strcmp(name, "ja4"))
		push_ja4(L, h);
	else
		return false;
	return true;
}

static bool push_of_server(lua_State *L, const struct hello *h, const char *name)
{
	if (!strcmp(name, "version"))
		push_version(L, h);
	else if (!strcmp(name, "cipher"))
		push_first(L, h->ciphers, hello_cipher_name);
	else
		return false;
	return true;
}

static bool is_one_of(const char *name, const char *const *names)
{
	for (; *names; names++)
		if (!strcmp(name, *names))
			return true;
	return false;
}

bool host_push_hello(lua_State *L, const struct stream_message *m, const char *name)
{
	static const char *const of_process[] = {"pid",	 "tid",	 "uid",	      "gid",
						 "comm", "proc", "container", NULL};
	static const char *const of_call[] = {"conn",	     "ret",	    "err", "duration_ns",
					      "duration_us", "duration_ms", NULL};
	const struct hello *h = m->hello;

	if (!strcmp(name, "hello"))
		lua_pushstring(L, h->client ? "client" : "server");
	else if (!strcmp(name, "retry"))
		lua_pushboolean(L, h->retry);
	else if (!strcmp(name, "alpn"))
		push_names(L, h->alpn);
	else if (!strcmp(name, "groups"))
		push_numbers(L, h->groups, 2, hello_group_name);
	else if (is_one_of(name, of_call) || (!m->head->pid && is_one_of(name, of_process)))
		lua_pushnil(L);
	else
		return h->client ? push_of_client(L, h, name) : push_of_server(L, h, name);
	return true;
}
