/* SPDX-License-Identifier: MIT */
/*
 * Text for scripts: escape, hexdump, human, duration, base64, is_utf8 and json. All are functions
 * of their arguments alone.
 */
#ifndef TLSSCOPE_LUA_TEXT_H
#define TLSSCOPE_LUA_TEXT_H

#include <lua.h>

#include "base.h"

/* Leaves a table of the functions on the stack. */
int luaopen_tlsscope_text(lua_State *L);

/*
 * A buffer that Lua owns, so that an error raised while it is in use leaks nothing. Whoever lets
 * Lua allocate meanwhile sets `busy`, and keeps the userdata on its stack: a finalizer may run and
 * come here too. Set for ever by an error, it only makes the next caller take a new buffer.
 */
struct lua_text_buffer {
	struct ts_buf text;
	bool busy;
};
void lua_text_push_buffer(lua_State *L);
/* The one in the running C function's first upvalue, emptied, or a new one put there. */
struct lua_text_buffer *lua_text_buffer(lua_State *L);

#endif
