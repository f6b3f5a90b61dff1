/** The program, run from its sources: Node.js takes the types away itself. */
import { main } from "../../cli/main.ts";

await main(process.argv.slice(2));
