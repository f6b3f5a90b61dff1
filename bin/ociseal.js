#!/usr/bin/env node
// Old syntax only, so that an old Node.js gets as far as the message.
var parts = process.versions.node.split(".").map(Number);
var suits =
  (parts[0] === 22 && (parts[1] > 22 || (parts[1] === 22 && parts[2] >= 2))) || (parts[0] === 24 && parts[1] >= 15) || parts[0] > 24;
if (suits) {
  // Blobs pass through as short-lived buffers: a young generation that stays small keeps them in the processor's cache
  // and the process a third smaller (measured with 1 GiB: 106 instead of 170 MiB).
  import("node:v8")
    .then(function (v8) {
      v8.setFlagsFromString("--semi-space-growth-factor=1");
      return import("node:module");
    })
    .then(function (module) {
      module.enableCompileCache();
      return import("../dist/bundle/main.js");
    })
    .then(function (main) {
      return main.main(process.argv.slice(2));
    })
    .catch(function (error) {
      process.stderr.write("error: ociseal could not start: " + (error && error.message) + "\nhint:  in a checkout run make build first\n");
      process.exitCode = 1;
    });
} else {
  process.stderr.write("error: ociseal needs Node.js 22.22.2 or newer 22, or 24.15 and newer; this is " + process.versions.node + "\n");
  process.exitCode = 2;
}
