// SPDX-License-Identifier: MIT
// An application: streams, forms, errors, over HTTP/1.1 and HTTP/2. app.js PORT CERT KEY
const http2 = require("http2"), fs = require("fs"), zlib = require("zlib");
const [port, cert, key] = process.argv.slice(2);

function stream(res, zipped) {
	res.setHeader("Content-Type", "text/event-stream");
	let out = res;
	if (zipped) {
		res.setHeader("Content-Encoding", "gzip");
		out = zlib.createGzip();
		out.pipe(res);
	}
	const parts = [": hello\n\n", "data: {\"delta\":\"Hel\"}\n\n", "event: tick\nid: 7\nda",
		"ta: one\ndata: two\n\ndata: {\"token\":\"s3cret\"}\r\n\r\n"];
	const next = () => parts.length ? (out.write(parts.shift()), setTimeout(next, parts.length ? 20 : 700))
		: out.end("data: last\n\n");
	next();
}

function answer(req, res, body) {
	const path = req.url.split("?")[0];
	if (path === "/sse" || path === "/zipped") return stream(res, path === "/zipped");
	if (path === "/slow") return setTimeout(() => res.end("late\n"), 300);
	if (path === "/hang") return setTimeout(() => (req.stream ? req.stream.session : req.socket)?.destroy(), 700);
	if (path === "/error") { res.statusCode = 503; return res.end("no\n"); }
	if (path === "/graphql") {
		res.setHeader("Content-Type", "application/json");
		return res.end(JSON.stringify({ data: null, errors: [{ message: "no such field" }] }));
	}
	if (path === "/picture") { res.setHeader("Content-Type", "image/png"); return res.end(Buffer.from([0, 255, 1, 254])); }
	if (path === "/login") {
		res.setHeader("Set-Cookie", "sid=s3cret; Path=/");
		res.setHeader("Content-Type", "application/json");
		return res.end(JSON.stringify({ access_token: "s3cret", name: "ann" }));
	}
	res.end(JSON.stringify({ method: req.method, url: req.url, headers: req.headers, body: body.toString("base64") }));
}

http2.createSecureServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key), allowHTTP1: true }, (req, res) => {
	const got = [];
	req.on("data", (d) => got.push(d)).on("end", () => answer(req, res, Buffer.concat(got)));
	req.on("error", () => {});
}).listen(+port, "127.0.0.1", () => console.log("ready"));
