#!/usr/bin/env node
// Old syntax only, so that an old Node.js gets as far as the message.
var parts = process.versions.node.split(".").map(Number);
var suits =
  (parts[0] === 22 && (parts[1] > 22 || (parts[1] === 22 && parts[2] >= 2))) || (parts[0] === 24 && parts[1] >= 15) || parts[0] > 24;
if (suits) {
  start().catch(function (error) {
    process.stderr.write("error: ociseal could not start: " + (error && error.message) + "\nhint:  in a checkout run make build first\n");
    process.exitCode = 1;
  });
} else {
  var needs = "ociseal needs Node.js 22.22.2 or newer 22, or 24.15 and newer; this is " + process.versions.node;
  if (process.argv.indexOf("--json") > 1) {
    var error = { code: "ERR_USAGE", message: needs, hint: "install Node.js 24, or in a checkout run make build" };
    process.stdout.write(JSON.stringify({ error: error }) + "\n");
  } else {
    process.stderr.write("error: " + needs + "\n");
  }
  process.exitCode = 2;
}

async function start() {
  // Blobs pass through as short-lived buffers: a young generation that stays small, from the start, keeps them in the
  // processor's cache and the process a third smaller (measured: copying 1 GiB, 101 instead of 154 MiB). Where Node.js was not
  // started so, it is told not to grow it. That costs 35 ms, and as much for each thread: with such a flag set meanwhile, V8
  // takes no code that was compiled before.
  var v8 = process.getBuiltinModule("node:v8");
  var isSet = process.execArgv.some(function (flag) {
    return flag.indexOf("--max-semi-space-size=") === 0;
  });
  if (!isSet && !/--max-semi-space-size=/.test(process.env.NODE_OPTIONS || "")) v8.setFlagsFromString("--semi-space-growth-factor=1");
  // Freed on another thread, buffers make the cipher's threads wait: a twentieth of the time of encrypting.
  v8.setFlagsFromString("--no-concurrent-array-buffer-sweeping");
  var module = process.getBuiltinModule("node:module");
  var folder = cacheFolder();
  if (folder) module.enableCompileCache(folder);
  await module
    .createRequire(import.meta.url)("../dist/bundle/main.js")
    .main(process.argv.slice(2));
}

/**
 * Where compiled code is kept between runs: below the user's own folder. Under a shared /tmp, where Node.js keeps it
 * otherwise, another user could put code there first. Nothing is kept where there is no such folder.
 */
function cacheFolder() {
  var fs = process.getBuiltinModule("node:fs");
  var above = process.env.XDG_CACHE_HOME || (process.env.HOME && process.env.HOME + "/.cache");
  if (!above) return undefined;
  var folder = above + "/ociseal";
  // One level at a time: made whole, Node.js never comes back from a place like /proc.
  [above, folder].forEach(function (path) {
    try {
      fs.mkdirSync(path, 448);
    } catch {
      // It is there, or cannot be made: the next line tells.
    }
  });
  return fs.existsSync(folder) ? folder : undefined;
}
