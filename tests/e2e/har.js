// SPDX-License-Identifier: MIT
// Whether files are HAR, as har-validator says: har.js NODE_MODULES FILE...
const fs = require("fs");
const [modules, ...files] = process.argv.slice(2);
const validator = require(modules + "/har-validator/lib/promise");

files.reduce((before, file) => before.then(() => validator.har(JSON.parse(fs.readFileSync(file, "utf8")))), Promise.resolve())
	.then(() => console.log("valid"))
	.catch((e) => { console.error(e.errors || e); process.exit(1); });
