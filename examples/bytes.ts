// A stream that ends with an error unless it was exactly what its digest says.
import { Readable } from "node:stream";
import { collect, compose, digestOf, verifyContent } from "ociseal/bytes";

const content = Buffer.from("content");
const address = { digest: digestOf(content), size: content.length };
const verified = compose(Readable.from([content]), verifyContent(address));
console.log(String(await collect(verified, { maxBytes: 1024, subject: "example" })));
