/* SPDX-License-Identifier: MIT */
/* What `tlsscope help` and the shell's completion say: lua/help.lua has the policy. */
#include <errno.h>

#include "lua_host.h"

struct question {
	const char *what;
	int argc;
	char *const *argv;
};

static int answer(lua_State *L)
{
	const struct question *q = lua_touserdata(L, 1);
	int i;

	lua_rawgeti(L, LUA_REGISTRYINDEX, host_of(L)->callbacks.help);
	lua_newtable(L);
	host_add_facts(L);
	lua_call(L, 1, 1);
	lua_getfield(L, -1, q->what);
	lua_createtable(L, q->argc, 0);
	for (i = 0; i < q->argc; i++) {
		lua_pushstring(L, q->argv[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_call(L, 1, 0);
	return 0;
}

int script_answer(struct script *s, const char *what, int argc, char *const *argv)
{
	struct question q = {what, argc, argv};

	lua_pushcfunction(s->L, answer);
	lua_pushlightuserdata(s->L, &q);
	if (!host_call(s, 1, 0))
		return 0;
	host_tell(s->L, -1, "");
	lua_pop(s->L, 1);
	return -EINVAL;
}
