/* SPDX-License-Identifier: MIT */
/*
 * What of Lua's standard libraries a script gets. By default it can read files and print: nothing
 * that runs programs, writes or removes files, loads machine code or looks into other functions.
 * Whoever holds one of the tables (package.loaded has them too) gets the same: they are changed in
 * place.
 */
#include <string.h>

#include "lua_host.h"

#define HOOK_EVERY 1000 /* instructions of a coroutine between looks at the interrupt flag */

/* Upvalue: the function's name. */
static int refused(lua_State *L)
{
	const char *name = lua_tostring(L, lua_upvalueindex(1));
	const char *dot = strchr(name, '.');

	if (!strcmp(name, "os.exit"))
		return host_fail(L, "exit",
				 "os.exit is not available to scripts; call exit(status)");
	return host_fail(L, dot ? dot + 1 : name,
			 "%s is not available to scripts; --unsafe on the command line allows it",
			 name);
}

static void refuse(lua_State *L, const char *library, const char *name)
{
	lua_getglobal(L, library);
	lua_pushfstring(L, "%s.%s", library, name);
	lua_pushcclosure(L, refused, 1);
	lua_setfield(L, -2, name);
	lua_pop(L, 1);
}

/* Puts fn in the place of library[name]; fn's upvalue is what was there. */
static void wrap(lua_State *L, const char *library, const char *name, lua_CFunction fn)
{
	lua_getglobal(L, library);
	lua_getfield(L, -1, name);
	lua_pushcclosure(L, fn, 1);
	lua_setfield(L, -2, name);
	lua_pop(L, 1);
}

static int call_wrapped(lua_State *L)
{
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

/* io.open(name[, mode]): for reading only */
static int open_to_read(lua_State *L)
{
	const char *mode = luaL_optstring(L, 2, "r");

	if (strcmp(mode, "r") && strcmp(mode, "rb"))
		return host_fail(
			L, mode,
			"io.open: scripts may only read files (mode '%s'); --unsafe on the "
			"command line allows more",
			mode);
	return call_wrapped(L);
}

static int close_given(lua_State *L)
{
	luaL_checkany(L, 1);
	return call_wrapped(L);
}

/* Machine code can break out of anything: chunks are text. The mode is argument `at`. */
static int load_text(lua_State *L, int at)
{
	if (lua_gettop(L) < at)
		lua_settop(L, at);
	lua_pushliteral(L, "t");
	lua_replace(L, at);
	return call_wrapped(L);
}

static int load_chunk(lua_State *L)
{
	return load_text(L, 3);
}

static int load_file(lua_State *L)
{
	return load_text(L, 2);
}

static int do_file(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

	lua_settop(L, 1);
	if (luaL_loadfilex(L, name, "t"))
		return lua_error(L);
	lua_call(L, 0, LUA_MULTRET);
	return lua_gettop(L) - 1;
}

/*
 * An interrupt sets the hook of the main thread only: coroutines look for themselves; from then on
 * at every instruction, so that no pcall in them keeps it back.
 */
static void interrupt_flag(lua_State *L, lua_Debug *ar)
{
	if (host_of(L)->interrupted) {
		lua_sethook(L, interrupt_flag, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
		host_interrupted(L, ar);
	} else if (lua_gethookcount(L) == 1) {
		lua_sethook(L, interrupt_flag, LUA_MASKCOUNT, HOOK_EVERY);
	}
}

static int create_coroutine(lua_State *L)
{
	lua_State *co;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	co = lua_newthread(L);
	lua_sethook(co, interrupt_flag, LUA_MASKCOUNT, HOOK_EVERY);
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 1);
	return 1;
}

static void restrict_debug(lua_State *L)
{
	static const char *const kept[] = {"traceback", "getinfo"};
	const char *name;
	bool keep;
	size_t i;

	lua_getglobal(L, "debug");
	lua_newtable(L); /* the names: fields must not be set to new values on the way */
	for (lua_pushnil(L); lua_next(L, -3); lua_pop(L, 1)) {
		lua_pushvalue(L, -2);
		lua_pushboolean(L, 1);
		lua_rawset(L, -5);
	}
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
		name = lua_tostring(L, -2);
		for (keep = false, i = 0; i < TS_ARRAY_SIZE(kept); i++)
			keep |= !strcmp(name, kept[i]);
		if (!keep)
			refuse(L, "debug", name);
	}
	lua_pop(L, 2);
}

static void restrict_package(lua_State *L)
{
	static const char *const gone[] = {"path", "cpath", "searchers"};
	size_t i;

	refuse(L, "package", "loadlib");
	refuse(L, "package", "searchpath");
	lua_getglobal(L, "package");
	for (i = 0; i < TS_ARRAY_SIZE(gone); i++) {
		lua_pushnil(L);
		lua_setfield(L, -2, gone[i]);
	}
	lua_pop(L, 1);
}

static void restrict_all(lua_State *L)
{
	static const char *const os[] = {"execute", "remove", "rename", "tmpname", "setlocale"};
	static const char *const io[] = {"popen", "tmpfile", "output"};
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(os); i++)
		refuse(L, "os", os[i]);
	for (i = 0; i < TS_ARRAY_SIZE(io); i++)
		refuse(L, "io", io[i]);
	refuse(L, "os", "exit");
	wrap(L, "io", "open", open_to_read);
	wrap(L, "io", "close", close_given);
	wrap(L, "_G", "load", load_chunk);
	wrap(L, "_G", "loadfile", load_file);
	lua_pushcfunction(L, do_file);
	lua_setglobal(L, "dofile");
	restrict_debug(L);
	restrict_package(L);
}

/* The library's own globals, so that a script may use any name for what it likes. */
static void copy_globals(lua_State *L)
{
	lua_newtable(L);
	lua_pushglobaltable(L);
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
		lua_pushvalue(L, -2);
		lua_pushvalue(L, -2);
		lua_rawset(L, -6);
	}
	lua_pop(L, 1);
	lua_setfield(L, LUA_REGISTRYINDEX, HOST_LIBRARY);
}

void host_open_libraries(lua_State *L, bool unsafe)
{
	luaL_openlibs(L);
	wrap(L, "coroutine", "create", create_coroutine);
	if (!unsafe)
		restrict_all(L);
	copy_globals(L);
}
