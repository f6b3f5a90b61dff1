/** A compiled module; opaque. Threads may share it. */
export interface WasmModule {
  readonly [Symbol.toStringTag]: string;
}

/** A module's memory. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer;
}

interface ModuleLink {
  readonly module: string;
  readonly name: string;
}

/** The parts of WebAssembly that are used here. Source: WebAssembly JavaScript Interface. */
interface WebAssemblyApi {
  compile(bytes: Uint8Array<ArrayBuffer>): Promise<WasmModule>;
  readonly Module: {
    imports(module: WasmModule): readonly ModuleLink[];
    exports(module: WasmModule): readonly Pick<ModuleLink, "name">[];
  };
  readonly LinkError: ErrorConstructor;
}

/** What the runtime has, typed: only the types of browsers declare it. */
export const webAssembly = (globalThis as unknown as { readonly WebAssembly: WebAssemblyApi }).WebAssembly;
