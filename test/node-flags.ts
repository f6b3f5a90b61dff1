/**
 * For every process of the tests whose threads run from sources. Node.js strips their types with WebAssembly, and V8 lets go
 * of the code by which that calls JavaScript twice when one thread ends while another compiles it: the process dies, about
 * once in a thousand threads (nodejs/node issue 64500; seen as SIGSEGV and as SIGTRAP in `WasmImportWrapperCache::Free`).
 * With this flag V8 frees no such code before the end. What is compiled to JavaScript has none, and needs no flag.
 */
export const sourceThreadFlags: readonly string[] = ["--no-wasm-code-gc"];
