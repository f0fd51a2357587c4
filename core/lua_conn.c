/* SPDX-License-Identifier: MIT */
/*
 * e.conn. Invariant: a connection that Lua has seen has its userdata in the registry under
 * stream_conn.user until it closes; then the userdata lives on, as long as the script keeps it,
 * with a copy of what was known last; its `shake` is then the userdata's.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api.h"
#include "lua_host.h"

struct conn {
	const struct stream_conn *open; /* NULL: closed */
	struct stream_conn last;
};

#define CONN_TYPE "tlsscope.conn"

void host_push_conn(lua_State *L, struct stream_conn *c)
{
	struct conn *conn;

	if (c->user) {
		lua_rawgeti(L, LUA_REGISTRYINDEX, c->user);
		return;
	}
	conn = lua_newuserdatauv(L, sizeof(*conn), 1);
	*conn = (struct conn){0};
	luaL_setmetatable(L, CONN_TYPE);
	lua_pushvalue(L, -1);
	/* May fail for want of memory: c must not be reachable before. */
	c->user = luaL_ref(L, LUA_REGISTRYINDEX);
	conn->open = c;
}

void host_conn_closed(lua_State *L, struct stream_conn *c)
{
	struct conn *conn;

	if (!c->user)
		return;
	lua_rawgeti(L, LUA_REGISTRYINDEX, c->user);
	conn = lua_touserdata(L, -1);
	conn->last = *c;
	conn->open = NULL;
	c->shake = NULL;
	lua_pushnil(L);
	lua_setiuservalue(L, -2, 1);
	lua_pop(L, 1);
	luaL_unref(L, LUA_REGISTRYINDEX, c->user);
	c->user = 0;
}

/* "any" is not an address of a connection. */
static bool known(const __u8 *address, size_t len)
{
	while (len && !address[len - 1])
		len--;
	return len;
}

/*
 * An address as text; what came by IPv6 from an IPv4 host is shown as that, and a Unix socket's
 * name that is no path begins with an "@". False: not known.
 */
static bool address_text(const struct ts_conn_info *i, const __u8 *address, size_t len,
			 char text[TS_ADDRESS + 1])
{
	static const __u8 mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (i->family == AF_UNIX && len && len <= TS_ADDRESS) {
		memcpy(text, address, len);
		text[len] = 0;
		if (!text[0])
			text[0] = '@';
		return true;
	}
	if (i->family == AF_INET && len == 4 && known(address, len))
		return inet_ntop(AF_INET, address, text, TS_ADDRESS);
	if (i->family != AF_INET6 || len != 16 || !known(address, len))
		return false;
	if (memcmp(address, mapped, sizeof(mapped)))
		return inet_ntop(AF_INET6, address, text, TS_ADDRESS);
	return known(address + 12, 4) && inet_ntop(AF_INET, address + 12, text, TS_ADDRESS);
}

static void push_address(lua_State *L, const struct ts_conn_info *i, const __u8 *address,
			 size_t len)
{
	char text[TS_ADDRESS + 1];

	if (address_text(i, address, len, text))
		lua_pushstring(L, text);
	else
		lua_pushnil(L);
}

static void push_family(lua_State *L, unsigned int family)
{
	const char *name = family == AF_INET	? "inet"
			   : family == AF_INET6 ? "inet6"
			   : family == AF_UNIX	? "unix"
						: NULL;

	lua_pushstring(L, name); /* NULL: nil */
}

static void push_number(lua_State *L, unsigned int number)
{
	if (number)
		lua_pushinteger(L, (lua_Integer)number);
	else
		lua_pushnil(L);
}

static void push_peer(lua_State *L, const struct stream_conn *c)
{
	char text[TS_ADDRESS + 1];

	if (!address_text(&c->info, c->info.raddr, c->info.rlen, text))
		lua_pushnil(L);
	else if (c->info.family == AF_UNIX)
		lua_pushstring(L, text);
	else if (strchr(text, ':'))
		lua_pushfstring(L, "[%s]:%d", text, (int)c->info.rport);
	else
		lua_pushfstring(L, "%s:%d", text, (int)c->info.rport);
}

/* linux/tls.h */
static void push_kernel_cipher(lua_State *L, unsigned int cipher)
{
	static const char *const names[] = {
		"AES_128_GCM", "AES_256_GCM", "AES_128_CCM",  "CHACHA20_POLY1305",
		"SM4_GCM",     "SM4_CCM",     "ARIA_128_GCM", "ARIA_256_GCM",
	};

	if (cipher >= 51 && cipher - 51 < TS_ARRAY_SIZE(names))
		lua_pushstring(L, names[cipher - 51]);
	else
		lua_pushnil(L);
}

bool host_push_info(lua_State *L, const struct stream_conn *c, const char *name)
{
	const struct ts_conn_info *i = &c->info;

	if (!strcmp(name, "laddr"))
		push_address(L, i, i->laddr, i->llen);
	else if (!strcmp(name, "raddr"))
		push_address(L, i, i->raddr, i->rlen);
	else if (!strcmp(name, "lport"))
		push_number(L, i->lport);
	else if (!strcmp(name, "rport"))
		push_number(L, i->rport);
	else if (!strcmp(name, "family"))
		push_family(L, i->family);
	else if (!strcmp(name, "peer"))
		push_peer(L, c);
	else if (!strcmp(name, "version"))
		host_push_version(L, i->version);
	else if (!strcmp(name, "cipher"))
		push_kernel_cipher(L, i->cipher);
	else
		return false;
	return true;
}

/* What a handshake told; false: nothing of that name. */
static bool push_shake(lua_State *L, const struct stream_shake *s, const char *name)
{
	if (!s)
		return false;
	if (!strcmp(name, "version") && s->version)
		host_push_version(L, s->version);
	else if (!strcmp(name, "cipher") && s->cipher)
		host_push_cipher(L, s->cipher);
	else if (!strcmp(name, "alpn") && s->alpn[0])
		lua_pushstring(L, s->alpn);
	else if (!strcmp(name, "sni") && s->sni[0])
		lua_pushstring(L, s->sni);
	else if (!strcmp(name, "role") && s->role)
		lua_pushstring(L, s->role == TS_SERVER ? "server" : "client");
	else
		return false;
	return true;
}

static int push_state(lua_State *L, const struct conn *conn)
{
	if (lua_getiuservalue(L, 1, 1) == LUA_TNIL && conn->open) {
		lua_pop(L, 1);
		lua_newtable(L);
		lua_pushvalue(L, -1);
		lua_setiuservalue(L, 1, 1);
	}
	return 1;
}

static int conn_index(lua_State *L)
{
	struct conn *conn = luaL_checkudata(L, 1, CONN_TYPE);
	const struct stream_conn *c = conn->open ? conn->open : &conn->last;
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";

	if (!strcmp(name, "state"))
		return push_state(L, conn);
	if (!strcmp(name, "id"))
		lua_pushinteger(L, (lua_Integer)c->id);
	else if (!strcmp(name, "pid"))
		lua_pushinteger(L, c->pid);
	else if (!strcmp(name, "fd") && c->fd >= 0)
		lua_pushinteger(L, c->fd);
	else if (!strcmp(name, "bytes_in"))
		lua_pushinteger(L, (lua_Integer)c->bytes[TS_IN]);
	else if (!strcmp(name, "bytes_out"))
		lua_pushinteger(L, (lua_Integer)c->bytes[TS_OUT]);
	else if (!strcmp(name, "opened_ns"))
		lua_pushinteger(L, (lua_Integer)c->opened);
	else if (!strcmp(name, "opened_us"))
		lua_pushnumber(L, (double)c->opened / 1e3);
	else if (!strcmp(name, "opened_ms"))
		lua_pushnumber(L, (double)c->opened / 1e6);
	else if (!strcmp(name, "closed"))
		lua_pushboolean(L, !conn->open);
	else if (push_shake(L, c->shake, name) || host_push_info(L, c, name))
		return 1;
	else if (api_find(API_CONN, name))
		lua_pushnil(L);
	else
		return host_fail_nearest(L, "field of a connection:", name,
					 api_nearest(API_CONN, name));
	return 1;
}

static int conn_newindex(lua_State *L)
{
	struct conn *conn = luaL_checkudata(L, 1, CONN_TYPE);

	/* conn.state = {...} is as good as filling it. */
	if (lua_type(L, 2) == LUA_TSTRING && !strcmp(lua_tostring(L, 2), "state")) {
		if (conn->open)
			lua_setiuservalue(L, 1, 1);
		return 0;
	}
	return host_fail(L, lua_tostring(L, 2),
			 "a connection's fields cannot be changed; keep things in conn.state");
}

static int conn_gc(lua_State *L)
{
	struct conn *conn = luaL_checkudata(L, 1, CONN_TYPE);

	free(conn->last.shake);
	conn->last.shake = NULL;
	return 0;
}

static int conn_tostring(lua_State *L)
{
	struct conn *conn = luaL_checkudata(L, 1, CONN_TYPE);
	const struct stream_conn *c = conn->open ? conn->open : &conn->last;

	lua_pushfstring(L, "connection %I of process %d", (LUAI_UACINT)c->id, (int)c->pid);
	return 1;
}

void host_open_conns(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{"__index", conn_index},
		{"__newindex", conn_newindex},
		{"__tostring", conn_tostring},
		{"__gc", conn_gc},
		{NULL, NULL},
	};

	luaL_newmetatable(L, CONN_TYPE);
	luaL_setfuncs(L, methods, 0);
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}
