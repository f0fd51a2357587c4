/* SPDX-License-Identifier: MIT */
/*
 * JSON for scripts: encode(value), decode(text), array(t), null and (of lua_text) base64(s). Strict
 * (RFC 8259) and bounded both ways; the same value gives the same text.
 */
#ifndef TLSSCOPE_LUA_JSON_H
#define TLSSCOPE_LUA_JSON_H

#include <lua.h>

#define LUA_JSON_DEPTH 100		     /* levels of arrays and objects */
#define LUA_JSON_ARRAY "tlsscope.json.array" /* the metatable that marks arrays */
#define LUA_JSON_MAX (64u << 20)	     /* bytes of text that one value becomes at most */

/* Takes a buffer of lua_text_buffer from the top of the stack and leaves the table json. */
void lua_json_open(lua_State *L);
int lua_json_decode(lua_State *L); /* its function decode */

#endif
