-- SPDX-License-Identifier: MIT
-- smtplog: mails as they are handed over by SMTP (submission, STARTTLS, LMTP), and what is refused
--
-- usage: tlsscope smtplog [--refused] [--commands] [--show-secrets]
--
--   --refused        only what a server refused
--   --commands       every command with its answer too
--   --show-secrets   what AUTH says as it is: else it shows as ***
--
-- A line a mail, when the server took or refused it: from whom, to whom (as the envelope says), bytes,
-- the server's answer, and how long it took to answer after the last byte. STARTTLS itself, and what
-- is said before it, is not encrypted: it is not seen. "?": bytes were lost, so that it is not known what
-- was answered; the next answer that only DATA, AUTH or VRFY has tells where the conversation is.
--
-- 14:00:00.412 curl[4711] -> 192.0.2.1:587 <ann@x.example> to <bob@y.example>, 1402 bytes: 250 OK 3.1ms
-- 14:00:00.416 curl[4711] -> 192.0.2.1:587 RCPT TO:<no@y.example>: 550 no such user 0.8ms

local format = require "format"
local secrets = require "secrets"
local talks = require "talks"

local opt = options {
	refused = {false, "only what a server refused"},
	commands = {false, "every command with its answer too"},
	show_secrets = secrets.option,
}

local shown = opt.show_secrets or secrets.shown
local LINE = 8192 -- bytes of a line; RFC 5321 has 512 and 1000
local PEOPLE = 100 -- recipients that are kept of a mail
local HIDDEN = "***"

local COMMANDS = {
	EHLO = true, HELO = true, LHLO = true, MAIL = true, RCPT = true, DATA = true, BDAT = true, RSET = true,
	NOOP = true, QUIT = true, VRFY = true, AUTH = true, STARTTLS = true, HELP = true, EXPN = true, XCLIENT = true,
}

local function who(buf)
	local verb = buf:match("^(%a+)[^\r\n]*\r\n")
	if verb then
		return COMMANDS[verb:upper()]
	elseif buf:find("^[2-5]%d%d[ -][^\r\n]*\r\n") then
		return false
	end
	verb = #buf < LINE and (buf:match("^(%a+)[^\r\n]*\r?$") or buf:match("^[2-5]%d?%d?$")
		or buf:match("^[2-5]%d%d[ -][^\r\n]*\r?$"))
	return nil, verb and (#verb < 9 and not buf:find("^%a+ ") or COMMANDS[verb:upper()] or not buf:find("^%a")) or false
end

-- These answers are of these commands only, and who said one of these waits for it (RFC 2920, 3.1; RFC
-- 4954, 4): where it was the last that was said, nothing else waits.
local PROOF = {DATA = {[354] = true}, VRFY = {[252] = true}, AUTH = {[334] = true, [235] = true, [535] = true}}

local HELLO = {EHLO = false, HELO = false, LHLO = true} -- whether it is LMTP

local function push(t, op)
	if HELLO[op.verb] ~= nil then
		t.lmtp = HELLO[op.verb]
	elseif t.lmtp == nil and not t.missed then
		t.lmtp = false -- it would have begun with LHLO
	end
	t.asked = true
	talks.push(t, op)
	return op
end

-- The envelope at hand.
local function mail_of(t)
	t.mail = t.mail or {to = {}, more = 0}
	return t.mail
end

local function address(text)
	return text:match("<[^>]*>") or text:match(":%s*(%S+)") or "-"
end

local function show_mail(t, op, code, said)
	local mail, took = op.mail, code and t.nsecs - op.begun
	if format.json then
		return emit(talks.record("smtplog", t, {
			from = mail.from, to = json.array(mail.to), more_to = mail.more > 0 and mail.more or nil, size = mail.size or 0,
			code = code, answer = said, duration_ns = took, partial = mail.partial, unknown = not code or nil,
		}))
	end
	local to = table.concat(mail.to, ",") .. (mail.more > 0 and (" and %d more"):format(mail.more) or "")
	to = mail.partial and "-" or talks.line(to, 300)
	printf("%s %s to %s, %d bytes: %s\n", talks.head(t), talks.line(mail.from or "-", 100), to, mail.size or 0,
		code and ("%d %s %s"):format(code, talks.line(said, 200), duration(took)) or "?")
end

local function show_command(t, op, code, said)
	local command, took = op.command, code and t.nsecs - op.begun
	if format.json then
		return emit(talks.record("smtplog", t, {
			command = command, code = code, answer = said, duration_ns = took, unknown = not code or nil,
		}))
	end
	printf("%s %s: %s\n", talks.head(t), talks.line(command, 200),
		code and ("%d %s %s"):format(code, talks.line(said, 200), duration(took)) or "?")
end

local function unknown(t, op)
	if op.ends and not opt.refused then
		show_mail(t, op)
	elseif not op.ends and op.command and opt.commands and not opt.refused then
		show_command(t, op)
	end
end

local function answered(t, op, code, said)
	local refused = code >= 400
	if op.ends and (refused or not opt.refused) then
		show_mail(t, op, code, said)
	elseif not op.ends and ((refused and op.command) or opt.commands) then
		show_command(t, op, code, said)
	end
end

-- What the server's answer changes.
local EFFECT = {
	MAIL = function(t, op, ok)
		t.mail = ok and {from = op.about, to = {}, more = 0} or t.mail
	end,
	RCPT = function(t, op, ok)
		local mail = mail_of(t)
		if ok and #mail.to < PEOPLE then
			mail.to[#mail.to + 1] = op.about
		elseif ok then
			mail.more = mail.more + 1
		end
	end,
	RSET = function(t) t.mail = nil end,
	EHLO = function(t) t.mail = nil end,
	HELO = function(t) t.mail = nil end,
	LHLO = function(t) t.mail = nil end,
}

-- The mail's last byte went out: an answer a mail, by LMTP one a recipient. How many are not known is
-- what else follows.
local function end_mail(t)
	local mail = mail_of(t)
	local uneven = t.lmtp == nil or (t.lmtp and mail.partial)
	for _ = 1, t.lmtp and not uneven and math.max(1, #mail.to + mail.more) or 1 do
		push(t, {ends = true, mail = mail})
	end
	if uneven and t.sure then
		talks.lost(t, true)
	end
	t.mail, t.content = nil, nil
end

-- What follows an answer of that command.
local function proceed(t, op, code)
	if op.verb == "AUTH" and code == 334 then
		t.auth = op
	elseif op.verb == "DATA" then
		t.content = code == 354 and {before = ""} or nil
	end
	return code == 334 or code == 354
end

-- One whole answer, of one line or several.
local function answer(t, code, said)
	local last = t.last_said
	if not t.sure and talks.idle(t) and last and PROOF[last.verb] and PROOF[last.verb][code] then
		t.missed, t.mail = true, {to = {}, more = 0, partial = true}
		talks.sync(t)
		proceed(t, last, code)
		return
	elseif talks.idle(t) and (not t.asked or code == 421) then
		return -- the greeting, or that it goes away
	end
	local op = talks.front(t) and talks.pop(t)
	if not op or proceed(t, op, code) then
		return
	elseif EFFECT[op.verb] then
		EFFECT[op.verb](t, op, code < 400)
	end
	answered(t, op, code, said)
end

local function no_line(t, buf, of_client)
	if #buf > LINE then
		talks.out_of_step(t, of_client)
		return #buf
	end
end

local function server(t, buf)
	local stop = buf:find("\n", 1, true)
	if not stop then
		return no_line(t, buf, false)
	end
	local code, more, said = buf:sub(1, stop):match("^(%d%d%d)([ -]?)([^\r\n]*)")
	if not code then
		talks.out_of_step(t, false)
		return #buf
	end
	t.text = #(t.text or "") < LINE and (t.text and t.text .. " " or "") .. said or t.text
	if more ~= "-" then
		said, t.text = t.text, nil
		answer(t, tonumber(code), said)
	end
	return stop
end

-- A mail's text, until a line that is a dot alone.
local function content(t, buf)
	local mail = mail_of(t)
	-- Enough of what was before to see the end, where it comes in pieces.
	local joined = t.content.before .. buf
	local stop = joined:find("\r\n.\r\n", 1, true)
	if not stop and not mail.size and joined:sub(1, 3) == ".\r\n" then
		stop = -1
	end
	if not stop then
		mail.size = (mail.size or 0) + #buf
		t.content.before = joined:sub(-4)
		return #buf
	end
	local used = stop + 4 - #t.content.before
	mail.size = (mail.size or 0) + used - 3
	end_mail(t)
	return used
end

local function command(t, line)
	local verb, rest = line:match("^(%a+)%s*(.*)$")
	verb, rest = (verb or ""):upper(), rest or ""
	local told = line
	if verb == "AUTH" and not shown then
		told = line:gsub("^(%a+%s+%S+%s+).*$", "%1" .. HIDDEN)
	end
	t.last_said = {command = told, verb = verb, about = address(rest)}
	if not t.sure then
		return verb == "BDAT" and tonumber(rest:match("^%d+")) or 0 -- it may be a mail's text that looks like one
	elseif verb == "BDAT" then
		local size, last = rest:match("^(%d+)%s*(%a*)")
		local mail, n = mail_of(t), tonumber(size) or 0
		mail.size = (mail.size or 0) + n
		if last and last:upper() == "LAST" then
			end_mail(t)
		else
			push(t, t.last_said)
		end
		return n
	end
	push(t, t.last_said)
	return 0
end

local function client(t, buf)
	if t.content then
		return content(t, buf)
	end
	local stop = buf:find("\n", 1, true)
	t.last_said = nil
	if not stop then
		return no_line(t, buf, true)
	end
	local line = buf:sub(1, stop):gsub("\r?\n$", "")
	if t.auth then
		local op = t.auth
		t.auth = nil
		op.command = op.command .. " " .. (shown and line or HIDDEN)
		push(t, op)
		return stop
	end
	local more = command(t, line)
	local used = math.min(#buf, stop + more)
	talks.skip(t, true, stop + more - used)
	return used
end

talks.follow {
	name = "smtplog",
	who = who,
	client = client,
	server = server,
	unknown = unknown,
	lost = function(t, of_client)
		t.missed, t.text, t.last_said = true, nil, nil
		if of_client then
			t.mail, t.content, t.auth = nil, nil, nil
		end
	end,
}
