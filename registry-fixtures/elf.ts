/**
 * A static program without any library: writes a text to standard output and ends with 0. Small enough to be made here,
 * so that a fixture image can really be started by crun or runc on a machine that has nothing.
 *
 * Source: ELF-64 Object File Format 1.5 (header, program header); the kernel's system call tables (write and exit: 1
 * and 60 on x86-64, 64 and 93 on aarch64).
 */
export function helloProgram(architecture: "amd64" | "arm64", text: string): Buffer {
  const message = Buffer.from(text);
  const code = architecture === "amd64" ? amd64Code(message.length) : arm64Code(message.length);
  const headers = 64 + 56;
  const base = 0x400000n;
  const size = headers + code.length + message.length;
  const file = Buffer.alloc(size);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]);
  file.writeUInt16LE(2, 16); // ET_EXEC
  file.writeUInt16LE(architecture === "amd64" ? 62 : 183, 18); // EM_X86_64, EM_AARCH64
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(base + BigInt(headers), 24); // entry
  file.writeBigUInt64LE(64n, 32); // program headers
  file.writeUInt16LE(64, 52);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(1, 56);
  file.writeUInt32LE(1, 64); // PT_LOAD
  file.writeUInt32LE(5, 68); // readable, executable
  file.writeBigUInt64LE(0n, 72);
  file.writeBigUInt64LE(base, 80);
  file.writeBigUInt64LE(base, 88);
  file.writeBigUInt64LE(BigInt(size), 96);
  file.writeBigUInt64LE(BigInt(size), 104);
  file.writeBigUInt64LE(0x1000n, 112);
  code.copy(file, headers);
  message.copy(file, headers + code.length);
  return file;
}

function amd64Code(length: number): Buffer {
  const instructions = [
    "b801000000", // mov eax, 1 (write)
    "bf01000000", // mov edi, 1 (standard output)
    "488d3500000000", // lea rsi, [rip + text]
    "ba00000000", // mov edx, length
    "0f05", // syscall
    "b83c000000", // mov eax, 60 (exit)
    "31ff", // xor edi, edi
    "0f05", // syscall
  ];
  const code = Buffer.from(instructions.join(""), "hex");
  code.writeInt32LE(code.length - 17, 13);
  code.writeUInt32LE(length, 18);
  return code;
}

function arm64Code(length: number): Buffer {
  const words = [
    0xd2800020, // mov x0, #1 (standard output)
    0x10000001 | (7 << 5), // adr x1, text (7 instructions on)
    0xd2800002 | ((length & 0xffff) << 5), // mov x2, #length
    0xd2800808, // mov x8, #64 (write)
    0xd4000001, // svc #0
    0xd2800000, // mov x0, #0
    0xd2800ba8, // mov x8, #93 (exit)
    0xd4000001, // svc #0
  ];
  const code = Buffer.alloc(words.length * 4);
  for (const [i, word] of words.entries()) code.writeUInt32LE(word >>> 0, i * 4);
  return code;
}
