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
-- is said before it, is not encrypted: it is not seen.
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
local OPEN = 1000 -- commands that wait for an answer
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

local function push(t, op)
	t.queue, t.first, t.last = t.queue or {}, t.first or 1, (t.last or 0) + 1
	t.queue[t.last], op.begun = op, t.nsecs
	if t.last - t.first >= OPEN then
		t.queue[t.first], t.first = nil, t.first + 1
	end
	return op
end

local function pop(t)
	local op = t.queue and t.queue[t.first]
	if op then
		t.queue[t.first], t.first = nil, t.first + 1
	end
	return op
end

local function forget(t)
	t.queue, t.first, t.last, t.mail, t.text = nil, nil, nil, nil, nil
	t.content, t.auth, t.awaited = nil, nil, nil
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
	local mail, took = op.mail, t.nsecs - op.begun
	if format.json then
		return emit(talks.record("smtplog", t, {
			from = mail.from, to = json.array(mail.to), more_to = mail.more > 0 and mail.more or nil, size = mail.size or 0,
			code = code, answer = said, duration_ns = took, partial = mail.partial,
		}))
	end
	local to = table.concat(mail.to, ",") .. (mail.more > 0 and (" and %d more"):format(mail.more) or "")
	printf("%s %s to %s, %d bytes: %d %s %s\n", talks.head(t), talks.line(mail.from or "-", 100), talks.line(to, 300),
		mail.size or 0, code, talks.line(said, 200), duration(took))
end

local function show_command(t, op, code, said)
	local command, took = op.command, t.nsecs - op.begun
	if format.json then
		return emit(talks.record("smtplog", t, {command = command, code = code, answer = said, duration_ns = took}))
	end
	printf("%s %s: %d %s %s\n", talks.head(t), talks.line(command, 200), code, talks.line(said, 200), duration(took))
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
		t.mail = ok and {from = op.about, to = {}, more = 0} or nil
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
	LHLO = function(t) t.mail, t.lmtp = nil, true end,
}

-- The mail's last byte went out: an answer a mail, by LMTP one a recipient.
local function end_mail(t)
	local mail = mail_of(t)
	for _ = 1, t.lmtp and math.max(1, #mail.to + mail.more) or 1 do
		push(t, {ends = true, mail = mail})
	end
	t.mail, t.content = nil, nil
end

-- One whole answer, of one line or several.
local function answer(t, code, said)
	local op = pop(t)
	if not op then
		return -- the greeting, or that it goes away
	end
	if op.verb == "AUTH" and code == 334 then
		t.auth = op
		return
	elseif op.verb == "DATA" then
		t.content = code == 354 and {before = ""} or nil
		if code == 354 then
			return
		end
	elseif EFFECT[op.verb] then
		EFFECT[op.verb](t, op, code < 400)
	end
	answered(t, op, code, said)
end

local function server(t, buf)
	local stop = buf:find("\n", 1, true)
	if not stop then
		return #buf > LINE and #buf or nil
	end
	local code, more, said = buf:sub(1, stop):match("^(%d%d%d)([ -]?)([^\r\n]*)")
	if not code then
		talks.out_of_step(t, false)
		forget(t)
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
	if verb == "BDAT" then
		local size, last = rest:match("^(%d+)%s*(%a*)")
		local mail, n = mail_of(t), tonumber(size) or 0
		mail.size = (mail.size or 0) + n
		if last and last:upper() == "LAST" then
			end_mail(t)
		else
			push(t, {command = line, verb = verb})
		end
		return n
	end
	local told = line
	if verb == "AUTH" and not shown then
		told = line:gsub("^(%a+%s+%S+%s+).*$", "%1" .. HIDDEN)
	end
	push(t, {command = told, verb = verb, about = address(rest)})
	return 0
end

local function client(t, buf)
	if t.content then
		return content(t, buf)
	end
	local stop = buf:find("\n", 1, true)
	if not stop then
		return #buf > LINE and #buf or nil
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
	lost = forget,
}
